#include <cuda_runtime_api.h>

#include "retrosparse_kernels/rms_norm.h"
#include "sm90/numeric.cuh"

namespace retrosparse::kernels::sm90 {
namespace {

constexpr int kThreads = 256;

/// A row belongs to kLanes consecutive threads (part of a warp, a warp, or the whole block), each of which walks it in
/// steps of one kWidth-element access. The second walk reads what the first left in L1: keeping the row in registers
/// would save no device memory traffic and bound dim.
template <class T, int kWidth, int kLanes>
__global__ void __launch_bounds__(kThreads) rms_norm_kernel(RmsNormParams params) {
  using Access = Vector<T, kWidth>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / kLanes) + threadIdx.x / kLanes;
  const int lane = threadIdx.x % kLanes;
  const bool has_row = row < params.rows;  // a warp's lanes stay together for the sum
  const int64_t accesses = has_row ? params.dim / kWidth : 0;
  const auto* x = reinterpret_cast<const Access*>(static_cast<const T*>(params.x) + row * params.x_row_stride);
  const auto* weight = static_cast<const Access*>(params.weight);
  auto* out = reinterpret_cast<Access*>(static_cast<T*>(params.out) + row * params.out_row_stride);

  float sum = 0;
#pragma unroll 4
  for (int64_t i = lane; i < accesses; i += kLanes) {
    const Access values = x[i];
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const float value = to_float(values.element[k]);
      sum += value * value;
    }
  }
  if constexpr (kLanes == kThreads) {
    sum = block_sum<kThreads>(sum);
  } else {
    sum = lane_sum<kLanes>(sum);
  }
  const float scale = rsqrtf(sum / static_cast<float>(params.dim) + params.eps);

#pragma unroll 4
  for (int64_t i = lane; i < accesses; i += kLanes) {
    const Access values = x[i];
    const Access weights = weight[i];
    Access result;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const float normalised = to_float(from_float<T>(to_float(values.element[k]) * scale));
      result.element[k] = from_float<T>(normalised * to_float(weights.element[k]));
    }
    out[i] = result;
  }
}

template <class T, int kWidth, int kLanes>
cudaError_t launch(const RmsNormParams& params, cudaStream_t stream) {
  constexpr int64_t kRowsPerBlock = kThreads / kLanes;
  const auto blocks = static_cast<unsigned>((params.rows + kRowsPerBlock - 1) / kRowsPerBlock);
  rms_norm_kernel<T, kWidth, kLanes><<<blocks, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

template <class T>
cudaError_t dispatch(const RmsNormParams& params, cudaStream_t stream) {
  constexpr int kWide = 16 / sizeof(T);  // elements in a 16-byte access
  const bool wide = are_multiples(kWide, params.dim, params.x_row_stride, params.out_row_stride) &&
                    are_aligned(16, params.x, params.weight, params.out);
  if (!wide) {
    return params.dim <= 512 ? launch<T, 1, 32>(params, stream) : launch<T, 1, kThreads>(params, stream);
  }
  const int64_t accesses = params.dim / kWide;
  if (accesses <= 8) {
    return launch<T, kWide, 8>(params, stream);
  }
  if (accesses <= 16) {
    return launch<T, kWide, 16>(params, stream);
  }
  if (accesses <= 64) {
    return launch<T, kWide, 32>(params, stream);
  }
  return launch<T, kWide, kThreads>(params, stream);
}

}  // namespace

cudaError_t rms_norm(const RmsNormParams& params, cudaStream_t stream) {
  if (params.rows == 0 || params.dim == 0) {
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
