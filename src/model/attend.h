#pragma once
#include <ATen/core/Tensor.h>

namespace retrosparse {

/// Attention over a part of the keys: the output normalised over that part, and the log-sum-exp (natural log) of its
/// scaled scores, with which parts are merged.
struct PartialAttention {
  at::Tensor out;  ///< [T, H, D], the dtype of q
  at::Tensor lse;  ///< float32 [T, H]
};

/// softmax(scale * q k^T + bias) v with grouped queries, in memory linear in T and S: never a T x S tensor of scores.
///   q [T, H, D], k and v [S, K, D], H a multiple of K, any strides with a contiguous last dimension;
///   S >= 1. bias: undefined, or [T, S] of q's dtype added to every head's scores (0 or -inf to mask); every row
///   must keep at least one key.
/// Uses libtorch's fused kernels (CPU: flash; CUDA: FlashAttention-2 for half precision without bias, else
/// memory-efficient), and ops::few_query_attention for a few rows on the CPU. Differentiable in `out`.
PartialAttention attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                        const at::Tensor& bias = {});

/// The same with a causal mask: T == S, row t sees keys 0..t.
PartialAttention attend_causal(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale);

/// The attention over two disjoint parts of the keys from the attention over each, by their log-sum-exps. A row without
/// keys (lse -inf) in both is 0.
PartialAttention merge(const PartialAttention& a, const PartialAttention& b);

}  // namespace retrosparse
