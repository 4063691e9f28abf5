#include "retrosparse_kernels/rope.h"

#include "reference/numeric.h"

namespace retrosparse::kernels::reference {
namespace {

template <class T>
void rotate(const RopeParams& params, int64_t token_begin, int64_t token_end) {
  const int64_t half = params.head_dim / 2;
  const float sign = params.inverse ? -1.0f : 1.0f;
  for (int64_t token = token_begin; token < token_end; ++token) {
    const float* cos = params.cos + token * half;
    const float* sin = params.sin + token * half;
    for (int64_t head = 0; head < params.heads; ++head) {
      const T* x = static_cast<const T*>(params.x) + token * params.x_token_stride + head * params.x_head_stride;
      T* out = static_cast<T*>(params.out) + token * params.out_token_stride + head * params.out_head_stride;
      for (int64_t j = 0; j < half; ++j) {
        const float first = to_float(x[j]);
        const float second = to_float(x[j + half]);
        const float signed_sin = sign * sin[j];
        out[j] = from_float<T>(first * cos[j] - second * signed_sin);
        out[j + half] = from_float<T>(second * cos[j] + first * signed_sin);
      }
    }
  }
}

}  // namespace

void rope(const RopeParams& params, int64_t token_begin, int64_t token_end) {
  switch (params.dtype) {
    case Dtype::kFloat32:
      return rotate<float>(params, token_begin, token_end);
    case Dtype::kFloat16:
      return rotate<Float16>(params, token_begin, token_end);
    case Dtype::kBfloat16:
      return rotate<Bfloat16>(params, token_begin, token_end);
  }
}

}  // namespace retrosparse::kernels::reference
