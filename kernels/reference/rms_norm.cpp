#include "retrosparse_kernels/rms_norm.h"

#include <cmath>

#include "reference/numeric.h"

namespace retrosparse::kernels::reference {
namespace {

/// Independent partial sums: the compiler may not reorder a float sum by itself, and one chain would run at the
/// latency of an addition.
constexpr int64_t kPartialSums = 16;

template <class T>
float sum_of_squares(const T* x, int64_t dim) {
  float partial[kPartialSums] = {};
  int64_t j = 0;
  for (; j + kPartialSums <= dim; j += kPartialSums) {
    for (int64_t k = 0; k < kPartialSums; ++k) {
      const float value = to_float(x[j + k]);
      partial[k] += value * value;
    }
  }
  for (int64_t k = 0; j < dim; ++j, ++k) {
    const float value = to_float(x[j]);
    partial[k] += value * value;
  }
  for (int64_t width = kPartialSums / 2; width > 0; width /= 2) {
    for (int64_t k = 0; k < width; ++k) {
      partial[k] += partial[k + width];
    }
  }
  return partial[0];
}

template <class T>
void normalise(const RmsNormParams& params, int64_t row_begin, int64_t row_end) {
  const T* weight = static_cast<const T*>(params.weight);
  for (int64_t row = row_begin; row < row_end; ++row) {
    const T* x = static_cast<const T*>(params.x) + row * params.x_row_stride;
    T* out = static_cast<T*>(params.out) + row * params.out_row_stride;
    const float mean = sum_of_squares(x, params.dim) / static_cast<float>(params.dim);
    const float scale = 1.0f / std::sqrt(mean + params.eps);
    for (int64_t j = 0; j < params.dim; ++j) {
      const float normalised = to_float(from_float<T>(to_float(x[j]) * scale));
      out[j] = from_float<T>(normalised * to_float(weight[j]));
    }
  }
}

}  // namespace

void rms_norm(const RmsNormParams& params, int64_t row_begin, int64_t row_end) {
  switch (params.dtype) {
    case Dtype::kFloat32:
      return normalise<float>(params, row_begin, row_end);
    case Dtype::kFloat16:
      return normalise<Float16>(params, row_begin, row_end);
    case Dtype::kBfloat16:
      return normalise<Bfloat16>(params, row_begin, row_end);
  }
}

}  // namespace retrosparse::kernels::reference
