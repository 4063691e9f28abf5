#pragma once
#include <cstdint>

#include "retrosparse_kernels/decode_selection.h"
#include "retrosparse_kernels/dtype.h"
#ifdef RETROSPARSE_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace retrosparse::kernels {

/// Index keys U_g k or index queries W_h q with their gates, from pre-RoPE keys or queries:
///   out[t, i, :] = weights[i] x[t, heads[i]]
///   gates[i, t]  = gate_weights[i] . x[t, heads[i]] + gate_biases[i]
/// Products are float32 sums, rounded once to `out_dtype`. Strides are in elements.
struct IndexProjectionParams {
  const void* x = nullptr;             ///< [tokens, all heads, head_dim] bf16, head_dim contiguous
  const void* weights = nullptr;       ///< [num_heads, kIndexDim, head_dim] bf16, contiguous
  void* out = nullptr;                 ///< [tokens, num_heads, kIndexDim] of out_dtype, kIndexDim contiguous
  const void* gate_weights = nullptr;  ///< [num_heads, head_dim] bf16; null: no gates
  const float* gate_biases = nullptr;  ///< [num_heads]
  float* gates = nullptr;              ///< [num_heads, tokens]
  const int32_t* heads = nullptr;      ///< [num_heads], host memory: heads of x that are projected
  int64_t x_token_stride = 0, x_head_stride = 0;
  int64_t out_token_stride = 0, out_head_stride = 0;
  int64_t gates_head_stride = 0;
  int64_t tokens = 0;
  int32_t num_heads = 0;
  int32_t head_dim = 0;
  Dtype out_dtype = Dtype::kBfloat16;
};

namespace reference {
/// In float64 from the bf16 inputs; all pointers are host memory.
void index_projection(const IndexProjectionParams& params);
}  // namespace reference

#ifdef RETROSPARSE_WITH_CUDA
namespace sm90 {
/// One launch, ordered on `stream`. Deterministic. head_dim 64 or 128; at most 256 heads; pointers and strides of x and
/// weights in multiples of 16 bytes. Arguments that cannot be right return cudaErrorInvalidValue before the launch.
cudaError_t index_projection(const IndexProjectionParams& params, cudaStream_t stream);
}  // namespace sm90
#endif

}  // namespace retrosparse::kernels
