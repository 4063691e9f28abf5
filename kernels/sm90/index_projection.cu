#include <algorithm>

#include "retrosparse_kernels/index_projection.h"
#include "sm90/mma.cuh"
#include "sm90/numeric.cuh"

namespace retrosparse::kernels::sm90 {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxHeads = 256;
constexpr int kTileTokens = 16;
constexpr int kOutputTiles = kIndexDim / 8 + 1;  // of 8 columns; the last holds the gate in its first

struct ProjectionKernelParams {
  IndexProjectionParams operation;
  int16_t heads[kMaxHeads];
};

template <class T>
__device__ void store_pair(void* out, int64_t index, float first, float second) {
  auto* element = static_cast<T*>(out) + index;
  element[0] = from_float<T>(first);
  element[1] = from_float<T>(second);
}

/// A warp multiplies tiles of 16 tokens of one head with the head's weights, which stay in its registers. Columns of x
/// and of the weights are dealt to the operands in the same order, but not in their own: a lane's 16 bytes at columns
/// 32 b + 8 (lane % 4) are its elements of two k = 16 products, so that every access is 16 bytes wide.
template <int kHeadDim>
__global__ void __launch_bounds__(kThreads)
    index_projection_kernel(const __grid_constant__ ProjectionKernelParams params) {
  constexpr int kBlocks = kHeadDim / 32;
  const IndexProjectionParams& p = params.operation;
  const int32_t lane = threadIdx.x % 32;
  const int32_t head = blockIdx.y;
  const int32_t row = lane / 4;
  const int32_t chunk = lane % 4;
  const auto* weights = static_cast<const __nv_bfloat16*>(p.weights) + int64_t{head} * kIndexDim * kHeadDim;
  const auto* gate_weights = static_cast<const __nv_bfloat16*>(p.gate_weights);
  uint4 b[kOutputTiles][kBlocks];
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    const int32_t column = 32 * block + 8 * chunk;
#pragma unroll
    for (int tile = 0; tile < kOutputTiles - 1; ++tile) {
      b[tile][block] = *reinterpret_cast<const uint4*>(weights + (8 * tile + row) * kHeadDim + column);
    }
    const bool has_gate = gate_weights != nullptr && row == 0;
    b[kOutputTiles - 1][block] = has_gate
                                     ? *reinterpret_cast<const uint4*>(gate_weights + int64_t{head} * kHeadDim + column)
                                     : make_uint4(0, 0, 0, 0);
  }
  const float bias = gate_weights != nullptr ? p.gate_biases[head] : 0.0f;
  const auto* x = static_cast<const __nv_bfloat16*>(p.x) + params.heads[head] * p.x_head_stride;
  const int64_t tiles = (p.tokens + kTileTokens - 1) / kTileTokens;
  const int64_t stride = int64_t{gridDim.x} * (kThreads / 32);
  for (int64_t t = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32; t < tiles; t += stride) {
    float sums[kOutputTiles][4] = {};
    const int64_t tokens[2] = {t * kTileTokens + row, t * kTileTokens + row + 8};
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      uint4 a[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int64_t token = min(tokens[half], p.tokens - 1);
        a[half] = *reinterpret_cast<const uint4*>(x + token * p.x_token_stride + 32 * block + 8 * chunk);
      }
      const uint32_t first[4] = {a[0].x, a[1].x, a[0].y, a[1].y};
      const uint32_t second[4] = {a[0].z, a[1].z, a[0].w, a[1].w};
#pragma unroll
      for (int tile = 0; tile < kOutputTiles; ++tile) {
        multiply_accumulate(sums[tile], first, b[tile][block].x, b[tile][block].y);
        multiply_accumulate(sums[tile], second, b[tile][block].z, b[tile][block].w);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (tokens[half] < p.tokens) {
#pragma unroll
        for (int tile = 0; tile < kOutputTiles - 1; ++tile) {
          const int64_t index = tokens[half] * p.out_token_stride + head * p.out_head_stride + 8 * tile + 2 * chunk;
          const float low = sums[tile][2 * half];
          const float high = sums[tile][2 * half + 1];
          if (p.out_dtype == Dtype::kFloat32) {
            store_pair<float>(p.out, index, low, high);
          } else if (p.out_dtype == Dtype::kFloat16) {
            store_pair<__half>(p.out, index, low, high);
          } else {
            store_pair<__nv_bfloat16>(p.out, index, low, high);
          }
        }
        if (gate_weights != nullptr && chunk == 0) {
          p.gates[head * p.gates_head_stride + tokens[half]] = sums[kOutputTiles - 1][2 * half] + bias;
        }
      }
    }
  }
}

bool is_valid(const IndexProjectionParams& params) {
  const auto is_aligned = [](const void* pointer) {
    return pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  };
  const bool has_gates = params.gate_weights != nullptr;
  return params.tokens >= 0 && params.num_heads >= 0 && params.num_heads <= kMaxHeads &&
         (params.head_dim == 64 || params.head_dim == 128) && is_aligned(params.x) && is_aligned(params.weights) &&
         params.out != nullptr && params.heads != nullptr && params.x_token_stride % 8 == 0 &&
         params.x_head_stride % 8 == 0 &&
         (!has_gates ||
          (is_aligned(params.gate_weights) && params.gate_biases != nullptr && params.gates != nullptr)) &&
         std::all_of(params.heads, params.heads + params.num_heads,
                     [](int32_t head) { return head >= 0 && head <= INT16_MAX; });
}

}  // namespace

cudaError_t index_projection(const IndexProjectionParams& params, cudaStream_t stream) {
  if (params.tokens == 0 || params.num_heads == 0) {
    return cudaSuccess;
  }
  if (!is_valid(params)) {
    return cudaErrorInvalidValue;
  }
  ProjectionKernelParams kernel{params, {}};
  for (int32_t i = 0; i < params.num_heads; ++i) {
    kernel.heads[i] = static_cast<int16_t>(params.heads[i]);
  }
  constexpr int64_t kBlockTokens = kTileTokens * kThreads / 32;
  const int64_t blocks = std::min<int64_t>((params.tokens + kBlockTokens - 1) / kBlockTokens, 512);
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(params.num_heads));
  if (params.head_dim == 64) {
    index_projection_kernel<64><<<grid, kThreads, 0, stream>>>(kernel);
  } else {
    index_projection_kernel<128><<<grid, kThreads, 0, stream>>>(kernel);
  }
  return cudaGetLastError();
}

}  // namespace retrosparse::kernels::sm90
