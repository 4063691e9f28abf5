#pragma once
#include <cstdint>

#include "retrosparse_kernels/dtype.h"
#ifdef RETROSPARSE_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace retrosparse::kernels {

/// Root-mean-square normalisation of rows (Zhang & Sennrich, arXiv 1910.07467):
///   out[i, j] = weight[j] * round(x[i, j] / sqrt(mean_j(x[i, j]^2) + eps))
/// Statistics and normalisation are float32; round() goes to `dtype`, and the product with the weight is rounded to
/// `dtype` again. These are the two roundings that Hugging Face's Llama and Qwen modules make, so that 16-bit results
/// agree with theirs bit for bit wherever the order of the sum does not matter.
struct RmsNormParams {
  const void* x = nullptr;       ///< [rows, dim] of dtype; element (i, j) at i * x_row_stride + j
  const void* weight = nullptr;  ///< [dim] of dtype
  void* out = nullptr;           ///< [rows, dim] of dtype; may be x itself when the two row strides are equal
  int64_t rows = 0;
  int64_t dim = 0;
  int64_t x_row_stride = 0;    ///< in elements, any alignment
  int64_t out_row_stride = 0;  ///< in elements, any alignment
  float eps = 0;
  Dtype dtype = Dtype::kFloat32;
};

namespace reference {
/// Rows [row_begin, row_end), in plain C++. Rows are independent, so that a caller may split them over threads.
void rms_norm(const RmsNormParams& params, int64_t row_begin, int64_t row_end);
}  // namespace reference

#ifdef RETROSPARSE_WITH_CUDA
namespace sm90 {
/// All rows, on device memory, ordered on `stream`. Deterministic. Returns the launch's error.
cudaError_t rms_norm(const RmsNormParams& params, cudaStream_t stream);
}  // namespace sm90
#endif

}  // namespace retrosparse::kernels
