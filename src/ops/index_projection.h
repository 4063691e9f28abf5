#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace retrosparse::ops {

/// W_h q or U_g k of some heads, as <retrosparse_kernels/index_projection.h> defines them.
///   x        [tokens, all heads, head_dim] bfloat16, before RoPE; on a GPU head_dim is 64 or 128
///   weights  [N, 16, head_dim] bfloat16
///   heads    N heads of x
///   out      [tokens, N, 16] float32, float16 or bfloat16 with 16 contiguous, written; a transposed view of an index
///            cache [N, tokens, 16] is welcome
/// Not differentiable. Throws std::invalid_argument if the arguments do not fit together.
void index_projection(const at::Tensor& x, const at::Tensor& weights, const std::vector<int32_t>& heads,
                      at::Tensor& out);

/// The same, and in `gates` (float32 [N, tokens], written) w_h . q + b_h with gate_weights bfloat16 [N, head_dim] and
/// gate_biases float32 [N].
struct IndexGate {
  at::Tensor weights, biases;
};
void index_projection(const at::Tensor& x, const at::Tensor& weights, const std::vector<int32_t>& heads,
                      at::Tensor& out, const IndexGate& gate, at::Tensor& gates);

}  // namespace retrosparse::ops
