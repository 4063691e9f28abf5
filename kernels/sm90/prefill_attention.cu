// Launch of the prefill kernel; the kernel's parts are prefill_producer.cuh and prefill_consumer.cuh.
#include <algorithm>
#include <cmath>

#include "sm90/prefill_consumer.cuh"
#include "sm90/prefill_producer.cuh"
#include "sm90/tensor_map.h"

namespace retrosparse::kernels::sm90 {
namespace {

template <int kHeadDim_>
struct PrefillConfig {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kQueryStages = 2;
  static constexpr int kKeyStages = 2;
};

// The block starts with 168 registers for each of its three warpgroups' threads (the most that 65536 allow) and shares
// those out anew.
constexpr int kConsumerRegisters = 232;
constexpr int kProducerRegisters = 3 * 168 - kConsumerWarpgroups * kConsumerRegisters;

template <class Config>
__global__ void __launch_bounds__(kPrefillThreads, 1)
    prefill_attention_kernel(const __grid_constant__ PrefillKernelParams params) {
  extern __shared__ __align__(1024) unsigned char shared_bytes[];
  auto& shared = *reinterpret_cast<PrefillSharedMemory<Config>*>(shared_bytes);
  if (threadIdx.x == 0) {
    prefetch_tensor_map(&params.q);
    prefetch_tensor_map(&params.k_step);
    prefetch_tensor_map(&params.v_step);
    shared.init_barriers();
  }
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    decrease_registers<kProducerRegisters>();
    if (threadIdx.x < 32) {
      PrefillProducer<Config>(params, shared).run();
    }
  } else {
    increase_registers<kConsumerRegisters>();
    PrefillConsumer<Config>(params, shared).run();
  }
}

bool is_valid(const PrefillAttentionParams& params) {
  const bool shape_is_valid = params.total_queries >= 0 && params.total_keys >= 0 && params.num_heads > 0 &&
                              params.num_heads <= PrefillSchedule::kMaxHeads && params.num_key_value_heads > 0 &&
                              params.num_heads % params.num_key_value_heads == 0 &&
                              (params.head_dim == 64 || params.head_dim == 128) && params.dtype == Dtype::kBfloat16;
  if (!shape_is_valid || !(params.softmax_scale > 0) || !std::isfinite(params.softmax_scale) ||
      params.sink_tokens < 0 || params.window < 1 || params.head_modes == nullptr || params.num_sequences < 0 ||
      (params.num_sequences > 0 && params.sequences == nullptr)) {
    return false;
  }
  int64_t max_keys = 0;
  for (int32_t s = 0; s < params.num_sequences; ++s) {
    const PrefillSequence& sequence = params.sequences[s];
    const bool inside =
        sequence.query_count >= 0 && sequence.key_count >= sequence.query_count && sequence.query_begin >= 0 &&
        sequence.key_begin >= 0 && sequence.query_begin <= params.total_queries - sequence.query_count &&
        sequence.key_begin <= params.total_keys - sequence.key_count && sequence.key_count <= KeyRange::kUnlimited;
    if (!inside) {
      return false;
    }
    max_keys = std::max<int64_t>(max_keys, sequence.key_count);
  }
  const HeadMode* end = params.head_modes + params.num_heads;
  if (std::any_of(params.head_modes, end, [](HeadMode mode) { return mode > HeadMode::kSelected; })) {
    return false;
  }
  const bool wants_tiles =
      params.part != PrefillPart::kResident && std::find(params.head_modes, end, HeadMode::kSelected) != end;
  const int64_t words = (max_keys + kPrefillKeyTile * 32 - 1) / (kPrefillKeyTile * 32);
  if (wants_tiles && (params.selected_tiles == nullptr || params.selected_tiles_query_stride < words)) {
    return false;
  }
  const auto is_aligned = [](const void* pointer, int64_t token_stride, int64_t head_stride) {
    return pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % 16 == 0 && token_stride % 8 == 0 &&
           head_stride % 8 == 0;
  };
  return is_aligned(params.q, params.q_token_stride, params.q_head_stride) &&
         is_aligned(params.k, params.k_token_stride, params.k_head_stride) &&
         is_aligned(params.v, params.v_token_stride, params.v_head_stride) &&
         is_aligned(params.o, params.o_token_stride, params.o_head_stride) && params.workspace != nullptr;
}

cudaError_t make_maps(const PrefillAttentionParams& params, PrefillKernelParams& kernel) {
  const TokenTensor q = {params.q,        params.total_queries,  params.num_heads,
                         params.head_dim, params.q_token_stride, params.q_head_stride};
  const TokenTensor k = {params.k,        params.total_keys,     params.num_key_value_heads,
                         params.head_dim, params.k_token_stride, params.k_head_stride};
  const TokenTensor v = {params.v,        params.total_keys,     params.num_key_value_heads,
                         params.head_dim, params.v_token_stride, params.v_head_stride};
  struct Map {
    const TokenTensor& tensor;
    int32_t box_tokens, box_halves;
    CUtensorMap& map;
  };
  const int32_t halves = params.head_dim / 64;
  for (const Map& map : {Map{q, kPrefillQueryTile, halves, kernel.q}, Map{k, kStepKeys, halves, kernel.k_step},
                         Map{v, kStepKeys, halves, kernel.v_step}, Map{k, kPrefillKeyTile, 1, kernel.k_tile},
                         Map{v, kPrefillKeyTile, 1, kernel.v_tile}}) {
    if (const cudaError_t error = make_token_map(map.tensor, map.box_tokens, map.box_halves, map.map);
        error != cudaSuccess) {
      return error;
    }
  }
  return cudaSuccess;
}

template <class Config>
cudaError_t launch(const PrefillKernelParams& kernel, int32_t multiprocessors, cudaStream_t stream) {
  constexpr size_t kSharedBytes = sizeof(PrefillSharedMemory<Config>);
  static_assert(kSharedBytes <= 227 * 1024);
  cudaError_t error =
      cudaFuncSetAttribute(prefill_attention_kernel<Config>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (error == cudaSuccess) {
    error = cudaMemsetAsync(kernel.next_item, 0, sizeof(int32_t), stream);
  }
  if (error != cudaSuccess) {
    return error;
  }
  const auto blocks = static_cast<unsigned>(std::min(multiprocessors, kernel.schedule.num_items));
  prefill_attention_kernel<Config><<<blocks, kPrefillThreads, kSharedBytes, stream>>>(kernel);
  return cudaGetLastError();
}

}  // namespace

cudaError_t prefill_attention(const PrefillAttentionParams& params, cudaStream_t stream) {
  if (!is_valid(params)) {
    return cudaErrorInvalidValue;
  }
  if (params.total_queries == 0 || params.num_sequences == 0) {
    return cudaSuccess;
  }
  int device = 0;
  int multiprocessors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  PrefillKernelParams kernel;
  if (error == cudaSuccess) {
    error = make_maps(params, kernel);
  }
  kernel.o = static_cast<__nv_bfloat16*>(params.o);
  kernel.lse = params.lse;
  kernel.selected_tiles = params.selected_tiles;
  kernel.next_item = params.workspace;
  kernel.o_token_stride = params.o_token_stride;
  kernel.o_head_stride = params.o_head_stride;
  kernel.lse_head_stride = params.lse_head_stride;
  kernel.selected_tiles_head_stride = params.selected_tiles_head_stride;
  kernel.selected_tiles_query_stride = params.selected_tiles_query_stride;
  kernel.total_keys = params.total_keys;
  kernel.heads_per_group = params.num_heads / params.num_key_value_heads;
  kernel.sink_tokens = params.sink_tokens;
  kernel.window = std::min(params.window, KeyRange::kUnlimited);
  kernel.softmax_scale = params.softmax_scale;
  kernel.part = params.part;

  int32_t query_tiles = 0;  // of the sequences already launched
  for (int32_t s = 0; s < params.num_sequences && error == cudaSuccess;) {
    const int32_t count = make_prefill_schedule(params, s, query_tiles, kernel.schedule);
    for (int32_t end = s + count; s < end; ++s) {
      query_tiles += (params.sequences[s].query_count + kPrefillQueryTile - 1) / kPrefillQueryTile;
    }
    if (kernel.schedule.num_items > 0) {
      error = params.head_dim == 64 ? launch<PrefillConfig<64>>(kernel, multiprocessors, stream)
                                    : launch<PrefillConfig<128>>(kernel, multiprocessors, stream);
    }
  }
  return error;
}

}  // namespace retrosparse::kernels::sm90
