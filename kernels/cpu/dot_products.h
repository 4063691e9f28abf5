#pragma once
#include <cstdint>

// So that a body takes its caller's instruction set.
#define RETROSPARSE_INLINE inline __attribute__((always_inline))

namespace retrosparse::kernels::cpu {

/// out[n] = x . rows[n], n in [0, count); x [size], row n at rows + n * stride. Compiled where sums may be taken in any
/// order.
RETROSPARSE_INLINE void dot_products(const float* x, const float* rows, int64_t stride, int64_t count, int64_t size,
                                     float* out) {
  int64_t n = 0;
  for (; n + 4 <= count; n += 4) {  // independent sums hide the latency of an addition
    const float *r0 = rows + n * stride, *r1 = r0 + stride, *r2 = r1 + stride, *r3 = r2 + stride;
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (int64_t d = 0; d < size; ++d) {
      s0 += x[d] * r0[d];
      s1 += x[d] * r1[d];
      s2 += x[d] * r2[d];
      s3 += x[d] * r3[d];
    }
    out[n] = s0;
    out[n + 1] = s1;
    out[n + 2] = s2;
    out[n + 3] = s3;
  }
  for (; n < count; ++n) {
    float sum = 0;
    for (int64_t d = 0; d < size; ++d) {
      sum += x[d] * rows[n * stride + d];
    }
    out[n] = sum;
  }
}

}  // namespace retrosparse::kernels::cpu
