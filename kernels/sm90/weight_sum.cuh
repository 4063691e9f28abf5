#pragma once
// Partial softmax results: sets of weights with the values that they weigh, and how two of them add up.
#include "sm90/ptx.cuh"

namespace retrosparse::kernels::sm90 {

/// Reference and sum of a set of weights 2^(exponent - reference).
struct WeightSum {
  float reference = -INFINITY;
  float sum = 0;
};

/// 2^(reference - larger), also for the reference of an empty set.
__device__ inline float factor_of(float reference, float larger) {
  return reference == -INFINITY ? 0.0f : exp2_approximate(reference - larger);
}

__device__ inline float combine(float a, float x, float b, float y) {
  return a * x + b * y;
}
__device__ inline float4 combine(float a, const float4& x, float b, const float4& y) {
  return make_float4(combine(a, x.x, b, y.x), combine(a, x.y, b, y.y), combine(a, x.z, b, y.z),
                     combine(a, x.w, b, y.w));
}

/// Adds a partial result (weights and weighted values) to another.
template <class Values>
__device__ inline void add(WeightSum& total, Values& values, const WeightSum& share, const Values& share_values) {
  const float reference = fmaxf(total.reference, share.reference);
  const float keep = factor_of(total.reference, reference);
  const float take = factor_of(share.reference, reference);
  total.reference = reference;
  total.sum = keep * total.sum + take * share.sum;
  values = combine(keep, values, take, share_values);
}

}  // namespace retrosparse::kernels::sm90
