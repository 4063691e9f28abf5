#include "retrosparse_kernels/one_row_linear.h"

#include "cpu/dot_products.h"

namespace retrosparse::kernels::cpu {
namespace {

RETROSPARSE_INLINE void outputs_body(const float* x, const float* weight, const float* bias, int64_t in_features,
                                     int64_t begin, int64_t end, float* y) {
  dot_products(x, weight + begin * in_features, in_features, end - begin, in_features, y + begin);
  if (bias != nullptr) {
    for (int64_t n = begin; n < end; ++n) {
      y[n] += bias[n];
    }
  }
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) void outputs_with_avx2(const float* x, const float* weight, const float* bias,
                                                           int64_t in_features, int64_t begin, int64_t end, float* y) {
  outputs_body(x, weight, bias, in_features, begin, end, y);
}
#endif

}  // namespace

void one_row_linear(const float* x, const float* weight, const float* bias, int64_t in_features, int64_t begin,
                    int64_t end, float* y) {
#ifdef __x86_64__
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  if (has_avx2) {
    return outputs_with_avx2(x, weight, bias, in_features, begin, end, y);
  }
#endif
  outputs_body(x, weight, bias, in_features, begin, end, y);
}

}  // namespace retrosparse::kernels::cpu
