// Launch of the decode attention kernel.
#include <algorithm>
#include <cmath>

#include "sm90/decode_merge.cuh"
#include "sm90/launch.h"

namespace retrosparse::kernels::sm90 {
namespace {

template <int kHeadDim>
__global__ void __launch_bounds__(kDecodeThreads, 2)
    decode_attention_kernel(const __grid_constant__ DecodeKernelParams params) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& shared = *reinterpret_cast<DecodeSharedMemory<kHeadDim>*>(shared_bytes);
  // A block that runs may rely on everything before the launch before its own: every launch waits before it allows the
  // next one.
  if (!params.follows_selection) {
    wait_for_previous_launch();
    allow_next_launch();
  }
  DecodeUnit unit;
  if (!find_unit(params, unit)) {
    return;
  }
  DecodeAttention<kHeadDim> attention(params, unit, shared);
  if (params.follows_selection) {
    wait_for_previous_launch();
    allow_next_launch();
  }
  attention.run();
  DecodeMerge<kHeadDim>(params, unit, shared).run();
}

int32_t count_selected_heads(const DecodeAttentionParams& params) {
  return static_cast<int32_t>(std::count(params.head_modes, params.head_modes + params.num_heads, HeadMode::kSelected));
}

bool has_valid_shape(const DecodeAttentionParams& params) {
  const bool valid = params.batch >= 0 && params.query_tokens >= 1 && params.query_tokens <= 8 &&
                     params.num_heads > 0 && params.num_heads <= kDecodeMaxHeads && params.num_key_value_heads > 0 &&
                     params.num_heads % params.num_key_value_heads == 0 &&
                     (params.head_dim == 64 || params.head_dim == 128) && params.dtype == Dtype::kBfloat16 &&
                     params.max_keys >= params.query_tokens && params.window >= 1 && params.sink_tokens >= 0 &&
                     params.max_selected >= 0 && params.head_modes != nullptr && params.part <= DecodePart::kSelected;
  if (!valid) {
    return false;
  }
  const int64_t row_tiles =
      (int64_t{params.num_heads} / params.num_key_value_heads * params.query_tokens + kDecodeRows - 1) / kDecodeRows;
  return std::all_of(params.head_modes, params.head_modes + params.num_heads,
                     [](HeadMode mode) { return mode <= HeadMode::kSelected; }) &&
         params.batch <= 65535 && params.num_key_value_heads * row_tiles <= 65535;
}

bool is_valid(const DecodeAttentionParams& params) {
  if (!has_valid_shape(params) || !(params.softmax_scale > 0) || !std::isfinite(params.softmax_scale)) {
    return false;
  }
  const bool selects =
      count_selected_heads(params) > 0 &&
      (params.part == DecodePart::kSelected || (params.part == DecodePart::kAll && params.max_selected > 0));
  const bool hands_over = params.part != DecodePart::kAll;
  const KeyValueCache& cache = params.cache;
  const auto is_aligned = [](const void* pointer) {
    return pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  };
  return is_aligned(params.q) && is_aligned(params.o) && is_aligned(cache.k) && is_aligned(cache.v) &&
         is_aligned(params.workspace) && params.key_counts != nullptr && cache.sequence_stride % 8 == 0 &&
         cache.token_stride % 8 == 0 && cache.head_stride % 8 == 0 &&
         (cache.page_table == nullptr || (cache.page_size > 0 && (cache.page_size & (cache.page_size - 1)) == 0)) &&
         (!selects || (params.selected != nullptr && params.selected_counts != nullptr)) &&
         (!hands_over || (params.o_float != nullptr && params.lse != nullptr));
}

/// The plan depends on the multiprocessors of the current device.
cudaError_t plan_for_device(const DecodeAttentionParams& params, DecodePlan& plan) {
  int device = 0;
  int multiprocessors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  if (error == cudaSuccess) {
    plan = make_decode_plan(params, multiprocessors);
  }
  return error;
}

int64_t count_pairs(const DecodeAttentionParams& params, const DecodePlan& plan) {
  return int64_t{params.batch} * params.num_key_value_heads * plan.row_tiles;
}

template <int kHeadDim>
cudaError_t launch(const DecodeKernelParams& kernel, int32_t batch, cudaStream_t stream) {
  constexpr size_t kSharedBytes = sizeof(DecodeSharedMemory<kHeadDim>);
  const cudaError_t error = cudaFuncSetAttribute(decode_attention_kernel<kHeadDim>,
                                                 cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (error != cudaSuccess) {
    return error;
  }
  const dim3 grid(kernel.plan.units(), kernel.num_key_value_heads * kernel.plan.row_tiles, batch);
  return launch_overlapping(decode_attention_kernel<kHeadDim>, grid, kDecodeThreads, kSharedBytes, stream, kernel);
}

}  // namespace

size_t decode_attention_workspace(const DecodeAttentionParams& params) {
  DecodePlan plan{};
  if (!has_valid_shape(params) || plan_for_device(params, plan) != cudaSuccess) {
    return 0;
  }
  const int64_t row_bytes =
      static_cast<int64_t>(sizeof(float2)) + params.head_dim * static_cast<int64_t>(sizeof(float));
  return static_cast<size_t>(count_pairs(params, plan) * plan.partial_rows() * row_bytes);
}

cudaError_t decode_attention(const DecodeAttentionParams& params, cudaStream_t stream) {
  if (!is_valid(params)) {
    return cudaErrorInvalidValue;
  }
  DecodeKernelParams kernel{};
  if (const cudaError_t error = plan_for_device(params, kernel.plan); error != cudaSuccess) {
    return error;
  }
  if (params.batch == 0 || (params.part == DecodePart::kSelected && count_selected_heads(params) == 0)) {
    return cudaSuccess;
  }
  kernel.q = static_cast<const __nv_bfloat16*>(params.q);
  kernel.o = static_cast<__nv_bfloat16*>(params.o);
  kernel.o_float = params.o_float;
  kernel.lse = params.lse;
  kernel.cache = params.cache;
  kernel.key_counts = params.key_counts;
  kernel.selected = params.selected;
  kernel.selected_counts = params.selected_counts;
  auto* workspace = static_cast<unsigned char*>(params.workspace);
  const int64_t partial_rows = count_pairs(params, kernel.plan) * kernel.plan.partial_rows();
  kernel.partials = reinterpret_cast<float*>(workspace);
  kernel.partial_sums = reinterpret_cast<float2*>(kernel.partials + partial_rows * params.head_dim);
  kernel.query_tokens = params.query_tokens;
  kernel.num_heads = params.num_heads;
  kernel.num_key_value_heads = params.num_key_value_heads;
  kernel.num_selected_heads = count_selected_heads(params);
  kernel.max_selected = params.max_selected;
  kernel.sink_tokens = params.sink_tokens;
  kernel.window = params.window;
  kernel.scale_log2 = params.softmax_scale * 1.44269504f;
  kernel.part = params.part;
  kernel.follows_selection = params.follows_selection && params.part == DecodePart::kSelected;
  int16_t rank = 0;
  for (int32_t h = 0; h < params.num_heads; ++h) {
    kernel.head_modes[h] = params.head_modes[h];
    kernel.selected_index[h] = rank;
    rank = static_cast<int16_t>(rank + (params.head_modes[h] == HeadMode::kSelected ? 1 : 0));
  }
  return params.head_dim == 64 ? launch<64>(kernel, params.batch, stream) : launch<128>(kernel, params.batch, stream);
}

}  // namespace retrosparse::kernels::sm90
