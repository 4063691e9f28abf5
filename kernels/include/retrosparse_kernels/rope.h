#pragma once
#include <cstdint>

#include "retrosparse_kernels/dtype.h"
#ifdef RETROSPARSE_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace retrosparse::kernels {

/// Rotary position embedding (Su et al., arXiv 2104.09864) in the rotate-half layout of Hugging Face's modules, where
/// dimension j < head_dim / 2 is paired with j + head_dim / 2:
///   out[t, h, j]        = x[t, h, j] * cos[t, j] - x[t, h, j + half] * sin[t, j]
///   out[t, h, j + half] = x[t, h, j + half] * cos[t, j] + x[t, h, j] * sin[t, j]
/// The arithmetic is float32, rounded to `dtype` once.
struct RopeParams {
  const void* x = nullptr;     ///< [tokens, heads, head_dim] of dtype; at t * x_token_stride + h * x_head_stride + j
  const float* cos = nullptr;  ///< [tokens, head_dim / 2] contiguous, any factor of the RoPE variant included
  const float* sin = nullptr;  ///< as cos
  void* out = nullptr;         ///< as x with its own strides; may be x itself when the strides are equal
  int64_t tokens = 0;
  int32_t heads = 0;
  int32_t head_dim = 0;        ///< even
  int64_t x_token_stride = 0;  ///< strides in elements, any alignment
  int64_t x_head_stride = 0;
  int64_t out_token_stride = 0;
  int64_t out_head_stride = 0;
  bool inverse = false;  ///< rotate by the negative angles: the transpose, which is also the gradient
  Dtype dtype = Dtype::kFloat32;
};

namespace reference {
/// Tokens [token_begin, token_end), in plain C++. Tokens are independent, so that a caller may split them over threads.
void rope(const RopeParams& params, int64_t token_begin, int64_t token_end);
}  // namespace reference

#ifdef RETROSPARSE_WITH_CUDA
namespace sm90 {
/// All tokens, on device memory, ordered on `stream`. Deterministic. Returns the launch's error.
cudaError_t rope(const RopeParams& params, cudaStream_t stream);
}  // namespace sm90
#endif

}  // namespace retrosparse::kernels
