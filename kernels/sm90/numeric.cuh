#pragma once
// What element-wise kernels share: conversions to and from float32, wide memory accesses, sums over lanes and blocks.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace retrosparse::kernels::sm90 {

__device__ inline float to_float(float value) {
  return value;
}
__device__ inline float to_float(__half value) {
  return __half2float(value);
}
__device__ inline float to_float(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

template <class T>
__device__ inline T from_float(float value) {
  if constexpr (sizeof(T) == 4) {
    return value;
  } else {
    return T(value);  // round to nearest even
  }
}

/// kWidth elements that travel together, in accesses of up to 16 bytes.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth < 16 ? sizeof(T) * kWidth : 16) Vector {
  T element[kWidth];
};

/// Host side: whether every pointer is a multiple of `bytes`.
template <class... Pointers>
bool are_aligned(uintptr_t bytes, Pointers... pointers) {
  return (... && (reinterpret_cast<uintptr_t>(pointers) % bytes == 0));
}

/// Host side: whether every stride is a multiple of `width` elements.
template <class... Strides>
bool are_multiples(int64_t width, Strides... strides) {
  return (... && (strides % width == 0));
}

/// The sum over groups of kLanes consecutive lanes of a warp (a power of two up to 32), in every lane. All lanes of
/// the warp take part.
template <int kLanes>
__device__ inline float lane_sum(float value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  return value;
}

/// The sum over a block of kThreads threads (a multiple of 32), in every thread.
template <int kThreads>
__device__ inline float block_sum(float value) {
  constexpr int kWarps = kThreads / 32;
  __shared__ float warp_sums[kWarps];
  value = lane_sum<32>(value);
  if (threadIdx.x % 32 == 0) {
    warp_sums[threadIdx.x / 32] = value;
  }
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) {
    sum += warp_sums[warp];
  }
  return sum;
}

}  // namespace retrosparse::kernels::sm90
