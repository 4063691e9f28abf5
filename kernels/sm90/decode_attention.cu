// Launch of the decode attention kernel.
#include <algorithm>

#include "sm90/decode_merge.cuh"
#include "sm90/decode_validity.h"
#include "sm90/launch.h"
#include "sm90/sparse_decode_parts.h"

namespace retrosparse::kernels::sm90 {
namespace {

template <int kHeadDim>
__global__ void __launch_bounds__(kDecodeThreads, 2)
    decode_attention_kernel(const __grid_constant__ DecodeKernelParams params) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& shared = *reinterpret_cast<DecodeSharedMemory<kHeadDim>*>(shared_bytes);
  DecodeUnit unit;
  // In this order: what overlaps this launch may rely on all before it. Beside the selection, this one may start
  // because that one has waited.
  if (params.row_flags == nullptr) {
    wait_for_previous_launch();
  }
  allow_next_launch();
  if (find_unit(params, unit)) {
    DecodeAttention<kHeadDim>(params, unit, shared).run();
    DecodeMerge<kHeadDim>(params, unit, shared).run();
  }
  // Who waits for this launch relies on the one before it as well. One block is enough, and the others make room.
  const bool is_last = blockIdx.x == gridDim.x - 1 && blockIdx.y == gridDim.y - 1 && blockIdx.z == gridDim.z - 1;
  if (params.row_flags != nullptr && is_last) {
    wait_for_previous_launch();
  }
}

cudaError_t count_multiprocessors(int32_t& multiprocessors) {
  int device = 0;
  const cudaError_t error = cudaGetDevice(&device);
  return error != cudaSuccess ? error
                              : cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
}

/// The plan depends on the multiprocessors of the current device, and on how many blocks find room: two to each, but
/// beside a selection one to two thirds of them.
cudaError_t plan_for_device(const DecodeAttentionParams& params, bool beside_selection, DecodePlan& plan) {
  int32_t multiprocessors = 0;
  const cudaError_t error = count_multiprocessors(multiprocessors);
  if (error == cudaSuccess) {
    plan = make_decode_plan(params, beside_selection ? multiprocessors * 2 / 3 : 2 * multiprocessors);
  }
  return error;
}

int64_t count_pairs(const DecodeAttentionParams& params, const DecodePlan& plan) {
  return int64_t{params.batch} * params.num_key_value_heads * plan.row_tiles;
}

template <int kHeadDim>
cudaError_t launch(const DecodeKernelParams& kernel, int32_t batch, cudaStream_t stream) {
  constexpr size_t kSharedBytes = sizeof(DecodeSharedMemory<kHeadDim>);
  const cudaError_t error = allow_shared_memory(decode_attention_kernel<kHeadDim>, kSharedBytes);
  if (error != cudaSuccess) {
    return error;
  }
  const dim3 grid(kernel.plan.units(), kernel.num_key_value_heads * kernel.plan.row_tiles, batch);
  return launch_overlapping(decode_attention_kernel<kHeadDim>, grid, kDecodeThreads, kSharedBytes, stream, kernel);
}

int64_t workspace_bytes(const DecodeAttentionParams& params, bool beside_selection) {
  DecodePlan plan{};
  if (!has_valid_shape(params) || plan_for_device(params, beside_selection, plan) != cudaSuccess) {
    return 0;
  }
  const int64_t row_bytes =
      static_cast<int64_t>(sizeof(float2)) + params.head_dim * static_cast<int64_t>(sizeof(float));
  return static_cast<int64_t>(kDecodeCounterBytes) + count_pairs(params, plan) * plan.partial_rows() * row_bytes;
}

cudaError_t attend(const DecodeAttentionParams& params, int32_t* row_flags, cudaStream_t stream) {
  if (!is_valid(params)) {
    return cudaErrorInvalidValue;
  }
  DecodeKernelParams kernel{};
  if (const cudaError_t error = plan_for_device(params, row_flags != nullptr, kernel.plan); error != cudaSuccess) {
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
  kernel.counters = reinterpret_cast<int32_t*>(workspace);
  kernel.row_flags = row_flags;
  kernel.partials = reinterpret_cast<float*>(workspace + kDecodeCounterBytes);
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
  int16_t rank = 0;
  for (int32_t h = 0; h < params.num_heads; ++h) {
    kernel.head_modes[h] = params.head_modes[h];
    kernel.selected_index[h] = rank;
    rank = static_cast<int16_t>(rank + (params.head_modes[h] == HeadMode::kSelected ? 1 : 0));
  }
  return params.head_dim == 64 ? launch<64>(kernel, params.batch, stream) : launch<128>(kernel, params.batch, stream);
}

}  // namespace

size_t decode_attention_workspace(const DecodeAttentionParams& params) {
  return static_cast<size_t>(std::max(workspace_bytes(params, false), workspace_bytes(params, true)));
}

cudaError_t decode_attention(const DecodeAttentionParams& params, cudaStream_t stream) {
  return attend(params, nullptr, stream);
}

cudaError_t decode_attention_beside_selection(const DecodeAttentionParams& params, int32_t* row_flags,
                                              cudaStream_t stream) {
  return attend(params, row_flags, stream);
}

bool starts_at_once_beside_selection(const DecodeAttentionParams& params) {
  DecodePlan plan{};
  int32_t multiprocessors = 0;
  return plan_for_device(params, true, plan) == cudaSuccess && count_multiprocessors(multiprocessors) == cudaSuccess &&
         count_pairs(params, plan) * plan.units() <= multiprocessors;
}

}  // namespace retrosparse::kernels::sm90
