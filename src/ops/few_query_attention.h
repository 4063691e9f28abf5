#pragma once
#include <ATen/core/Tensor.h>

#include <utility>

namespace retrosparse::ops {

/// Whether few_query_attention serves these queries: float32 on the CPU, a handful of rows, no gradient wanted.
bool serves_few_queries(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

/// softmax(scale * q k^T) v where every query sees every key, for a handful of query rows over a long cache.
/// libtorch's flash kernel for the CPU works in tiles of 32 queries and more, most of which would be padding here.
///   q        [T, H, D] float32 on the CPU
///   k, v     [S, K, D], H a multiple of K, S >= 1, any strides with a contiguous last dimension
///   returns  out [T, H, D] and the natural log-sum-exp of the scaled scores [T, H], contiguous float32
/// No gradients. Throws std::invalid_argument if the arguments do not fit together.
std::pair<at::Tensor, at::Tensor> few_query_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                      double scale);

}  // namespace retrosparse::ops
