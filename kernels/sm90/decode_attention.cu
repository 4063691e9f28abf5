// Launch of the decode attention kernel.
#include <algorithm>
#include <cmath>

#include "sm90/decode_launch.cuh"
#include "sm90/decode_merge.cuh"
#include "sm90/launch.h"

namespace retrosparse::kernels::sm90 {
namespace {

template <int kHeadDim>
__global__ void __launch_bounds__(kDecodeThreads, 2)
    decode_attention_kernel(const __grid_constant__ DecodeKernelParams params) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& shared = *reinterpret_cast<DecodeSharedMemory<kHeadDim>*>(shared_bytes);
  allow_next_launch();
  wait_for_previous_launch();
  DecodeUnit unit;
  if (find_unit(params, static_cast<int32_t>(blockIdx.x), static_cast<int32_t>(blockIdx.y),
                static_cast<int32_t>(blockIdx.z), unit)) {
    DecodeAttention<kHeadDim>(params, unit, shared).run();
    DecodeMerge<kHeadDim> merge(params, unit, shared);
    merge.publish();
    merge.merge_pair();
  }
}

template <int kHeadDim>
cudaError_t launch(const DecodeKernelParams& kernel, int32_t batch, cudaStream_t stream) {
  const dim3 grid(kernel.plan.units(), kernel.num_key_value_heads * kernel.plan.row_tiles, batch);
  return launch_overlapping(decode_attention_kernel<kHeadDim>, 1, grid, kDecodeThreads,
                            sizeof(DecodeSharedMemory<kHeadDim>), stream, kernel);
}

}  // namespace

bool has_valid_shape(const DecodeAttentionParams& params) {
  const bool valid = params.batch >= 0 && params.query_tokens >= 1 && params.query_tokens <= 8 &&
                     params.num_heads > 0 && params.num_heads <= kDecodeMaxHeads && params.num_key_value_heads > 0 &&
                     params.num_heads % params.num_key_value_heads == 0 &&
                     (params.head_dim == 64 || params.head_dim == 128) && params.dtype == Dtype::kBfloat16 &&
                     params.max_keys >= params.query_tokens && params.window >= 1 && params.sink_tokens >= 0 &&
                     params.max_selected >= 0 && params.head_modes != nullptr;
  if (!valid) {
    return false;
  }
  const int64_t row_tiles =
      (int64_t{params.num_heads} / params.num_key_value_heads * params.query_tokens + kDecodeRows - 1) / kDecodeRows;
  return std::all_of(params.head_modes, params.head_modes + params.num_heads,
                     [](HeadMode mode) { return mode <= HeadMode::kSelected; }) &&
         params.batch <= 65535 && params.batch * params.num_key_value_heads * row_tiles <= kDecodeMaxPairs;
}

bool is_valid(const DecodeAttentionParams& params) {
  const KeyValueCache& cache = params.cache;
  return has_valid_shape(params) && params.softmax_scale > 0 && std::isfinite(params.softmax_scale) &&
         params.q != nullptr && params.o != nullptr && cache.k != nullptr && cache.v != nullptr &&
         are_aligned(16, params.q, params.o, cache.k, cache.v) && params.key_counts != nullptr &&
         are_multiples(8, cache.sequence_stride, cache.token_stride, cache.head_stride) &&
         (cache.page_table == nullptr || (cache.page_size > 0 && (cache.page_size & (cache.page_size - 1)) == 0));
}

size_t partial_bytes(const DecodeAttentionParams& params, const DecodePlan& plan) {
  const int64_t row_bytes =
      static_cast<int64_t>(sizeof(float2)) + params.head_dim * static_cast<int64_t>(sizeof(float));
  return static_cast<size_t>(count_pairs(params, plan) * plan.partial_rows() * row_bytes);
}

DecodeKernelParams make_kernel_params(const DecodeAttentionParams& params, const DecodePlan& plan, void* partials) {
  DecodeKernelParams kernel{};
  kernel.plan = plan;
  kernel.q = static_cast<const __nv_bfloat16*>(params.q);
  kernel.o = static_cast<__nv_bfloat16*>(params.o);
  kernel.lse = params.lse;
  kernel.cache = params.cache;
  kernel.key_counts = params.key_counts;
  kernel.selected = params.selected;
  kernel.selected_counts = params.selected_counts;
  kernel.partials = static_cast<float*>(partials);
  kernel.partial_sums =
      reinterpret_cast<float2*>(kernel.partials + count_pairs(params, plan) * plan.partial_rows() * params.head_dim);
  kernel.batch = params.batch;
  kernel.query_tokens = params.query_tokens;
  kernel.num_heads = params.num_heads;
  kernel.num_key_value_heads = params.num_key_value_heads;
  kernel.max_selected = params.max_selected;
  kernel.sink_tokens = params.sink_tokens;
  kernel.window = params.window;
  kernel.scale_log2 = params.softmax_scale * 1.44269504f;
  int16_t rank = 0;
  for (int32_t h = 0; h < params.num_heads; ++h) {
    kernel.head_modes[h] = params.head_modes[h];
    kernel.selected_index[h] = rank;
    rank = static_cast<int16_t>(rank + (params.head_modes[h] == HeadMode::kSelected ? 1 : 0));
  }
  kernel.num_selected_heads = rank;
  return kernel;
}

size_t decode_attention_workspace(const DecodeAttentionParams& params) {
  int32_t multiprocessors = 0;
  if (!has_valid_shape(params) || find_multiprocessors(multiprocessors) != cudaSuccess) {
    return 0;
  }
  return kDecodeCounterBytes + partial_bytes(params, make_decode_plan(params, multiprocessors));
}

cudaError_t decode_attention(const DecodeAttentionParams& params, cudaStream_t stream) {
  const bool selects = is_valid(params) && params.max_selected > 0 &&
                       std::count(params.head_modes, params.head_modes + params.num_heads, HeadMode::kSelected) > 0;
  if (!is_valid(params) || params.workspace == nullptr || !are_aligned(16, params.workspace) ||
      (selects && (params.selected == nullptr || params.selected_counts == nullptr))) {
    return cudaErrorInvalidValue;
  }
  int32_t multiprocessors = 0;
  if (const cudaError_t error = find_multiprocessors(multiprocessors); error != cudaSuccess) {
    return error;
  }
  if (params.batch == 0) {
    return cudaSuccess;
  }
  auto* workspace = static_cast<unsigned char*>(params.workspace);
  DecodeKernelParams kernel =
      make_kernel_params(params, make_decode_plan(params, multiprocessors), workspace + kDecodeCounterBytes);
  kernel.counters = reinterpret_cast<int32_t*>(workspace);
  return params.head_dim == 64 ? launch<64>(kernel, params.batch, stream) : launch<128>(kernel, params.batch, stream);
}

}  // namespace retrosparse::kernels::sm90
