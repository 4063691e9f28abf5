#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>

#include "retrosparse_kernels/rope.h"
#include "sm90/numeric.cuh"

namespace retrosparse::kernels::sm90 {
namespace {

constexpr int kThreads = 256;
/// Rotations per thread aimed at: enough independent loads to hide memory latency.
constexpr int kUnitsPerThread = 2;

/// A unit of work is kWidth pairs of one head: one access to each half of the head. A block takes `tokens_per_block`
/// consecutive tokens, so that units are counted in 32 bits and the heads of a token share its cos and sin in L1.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) rope_kernel(RopeParams params, int tokens_per_block) {
  using Access = Vector<T, kWidth>;
  using Angles = Vector<float, kWidth>;
  const int half = params.head_dim / 2;
  const int units_per_head = half / kWidth;
  const int units_per_token = units_per_head * params.heads;
  const int64_t first_token = static_cast<int64_t>(blockIdx.x) * tokens_per_block;
  const int tokens = static_cast<int>(min(params.tokens - first_token, static_cast<int64_t>(tokens_per_block)));
  const float sign = params.inverse ? -1.0f : 1.0f;

#pragma unroll kUnitsPerThread
  for (int unit = threadIdx.x; unit < tokens * units_per_token; unit += kThreads) {
    const int64_t token = first_token + unit / units_per_token;
    const int head = unit % units_per_token / units_per_head;
    const int j = unit % units_per_head * kWidth;
    const T* x = static_cast<const T*>(params.x) + token * params.x_token_stride + head * params.x_head_stride + j;
    T* out = static_cast<T*>(params.out) + token * params.out_token_stride + head * params.out_head_stride + j;
    const Access first = *reinterpret_cast<const Access*>(x);
    const Access second = *reinterpret_cast<const Access*>(x + half);
    const Angles cos = *reinterpret_cast<const Angles*>(params.cos + token * half + j);
    const Angles sin = *reinterpret_cast<const Angles*>(params.sin + token * half + j);
    Access out_first, out_second;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const float a = to_float(first.element[k]);
      const float b = to_float(second.element[k]);
      const float signed_sin = sign * sin.element[k];
      out_first.element[k] = from_float<T>(a * cos.element[k] - b * signed_sin);
      out_second.element[k] = from_float<T>(b * cos.element[k] + a * signed_sin);
    }
    *reinterpret_cast<Access*>(out) = out_first;
    *reinterpret_cast<Access*>(out + half) = out_second;
  }
}

template <class T, int kWidth>
cudaError_t launch(const RopeParams& params, cudaStream_t stream) {
  const int units_per_token = params.head_dim / 2 / kWidth * params.heads;
  const int tokens_per_block = std::max(1, kThreads * kUnitsPerThread / units_per_token);
  const auto blocks = static_cast<unsigned>((params.tokens + tokens_per_block - 1) / tokens_per_block);
  rope_kernel<T, kWidth><<<blocks, kThreads, 0, stream>>>(params, tokens_per_block);
  return cudaGetLastError();
}

template <class T>
cudaError_t dispatch(const RopeParams& params, cudaStream_t stream) {
  constexpr int kWide = 16 / sizeof(T);  // elements in a 16-byte access
  const bool wide = params.head_dim / 2 % kWide == 0 &&
                    are_multiples(kWide, params.x_token_stride, params.x_head_stride, params.out_token_stride,
                                  params.out_head_stride) &&
                    are_aligned(16, params.x, params.out, params.cos, params.sin);
  return wide ? launch<T, kWide>(params, stream) : launch<T, 1>(params, stream);
}

}  // namespace

cudaError_t rope(const RopeParams& params, cudaStream_t stream) {
  if (params.tokens == 0 || params.heads == 0 || params.head_dim == 0) {
    return cudaSuccess;
  }
  switch (params.dtype) {
    case Dtype::kFloat32:
      return dispatch<float>(params, stream);
    case Dtype::kFloat16:
      return dispatch<__half>(params, stream);
    case Dtype::kBfloat16:
      return dispatch<__nv_bfloat16>(params, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace retrosparse::kernels::sm90
