// Tile selection: its producer warp and launch; the consumers are in tile_selection_consumer.cuh.
#include <algorithm>
#include <cmath>
#include <vector>

#include "sm90/tensor_map.h"
#include "sm90/tile_selection_consumer.cuh"

namespace retrosparse::kernels::sm90 {
namespace {

/// Draws items and streams their keys: the sampled ones, then all far ones.
class TileProducer {
 public:
  __device__ TileProducer(const TileSelectionKernelParams& params, TileSharedMemory& shared)
      : params_(params), shared_(shared) {}

  __device__ void run() {
    int32_t sequence = 0;
    int32_t index = blockIdx.x;
    while (index < params_.num_items) {
      const int32_t next = atomicAdd(params_.next_item, 1) + static_cast<int32_t>(gridDim.x);
      while (index >= params_.first_item[sequence + 1]) {
        ++sequence;
      }
      produce(sequence, index - params_.first_item[sequence]);
      index = next;
    }
    TileItem stop{};
    stop.r = TileItem::kStop;
    announce(stop);
  }

 private:
  __device__ void produce(int32_t s, int32_t offset) {
    const PrefillSequence& sequence = params_.sequences[s];
    const int32_t runs = (sequence.query_count + kRunQueries - 1) / kRunQueries;
    TileItem item;
    item.r = offset % params_.num_selected_heads;
    item.sequence = s;
    item.first_query = (runs - 1 - offset / params_.num_selected_heads) * kRunQueries;
    item.query_count = min(kRunQueries, sequence.query_count - item.first_query);
    const int32_t far_end =
        sequence.key_count - sequence.query_count + item.first_query + item.query_count - params_.window;
    const int32_t far_count = max(0, far_end - params_.sink_tokens);
    item.sample_stride = far_count >= kTileSampleFrom ? kTileSampleStride : 1;
    item.sample_begin = (sequence.key_begin + params_.sink_tokens + item.sample_stride - 1) / item.sample_stride;
    const int32_t sample_end = (sequence.key_begin + max(0, far_end) + item.sample_stride - 1) / item.sample_stride;
    item.sample_steps = far_count > 0 ? (sample_end - item.sample_begin + kScoreKeys - 1) / kScoreKeys : 0;
    item.first_step = params_.sink_tokens / kScoreKeys;
    item.end_step = far_count > 0 ? (far_end + kScoreKeys - 1) / kScoreKeys : item.first_step;
    announce(item);

    const int32_t group = params_.groups[item.r];
    const CUtensorMap* sample_map = item.sample_stride == 1 ? &params_.keys : &params_.sampled_keys;
    for (int32_t step = 0; step < item.sample_steps; ++step) {
      load(sample_map, item.sample_begin + step * kScoreKeys, group);
    }
    for (int32_t step = item.first_step; step < item.end_step; ++step) {
      load(&params_.keys, sequence.key_begin + step * kScoreKeys, group);
    }
  }

  __device__ void announce(const TileItem& item) {
    shared_.item_empty[item_ring_.stage].wait(item_ring_.parity ^ 1);
    shared_.items[item_ring_.stage] = item;
    shared_.item_full[item_ring_.stage].arrive();
    item_ring_.advance();
  }

  __device__ void load(const CUtensorMap* map, int32_t row, int32_t group) {
    shared_.key_empty[key_ring_.stage].wait(key_ring_.parity ^ 1);
    Barrier& full = shared_.key_full[key_ring_.stage];
    full.arrive_expecting(sizeof(shared_.keys[0]));
    tma_load(shared_.keys[key_ring_.stage], map, full, 0, row, group, 0);
    key_ring_.advance();
  }

  const TileSelectionKernelParams& params_;
  TileSharedMemory& shared_;
  Ring<2> item_ring_;
  Ring<kScoreStages> key_ring_;
};

// The block starts with 128 registers a thread and shares them out anew.
constexpr int kSelectorRegisters = 160;
constexpr int kTileProducerRegisters = 4 * 128 - kSelectorWarpgroups * kSelectorRegisters;

__global__ void __launch_bounds__(kSelectorThreads, 1)
    tile_selection_kernel(const __grid_constant__ TileSelectionKernelParams params) {
  extern __shared__ __align__(1024) unsigned char shared_bytes[];
  auto& shared = *reinterpret_cast<TileSharedMemory*>(shared_bytes);
  if (threadIdx.x == 0) {
    prefetch_tensor_map(&params.keys);
    prefetch_tensor_map(&params.sampled_keys);
    shared.init_barriers();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    decrease_registers<kTileProducerRegisters>();
    if (threadIdx.x == 0) {
      TileProducer(params, shared).run();
    }
  } else {
    increase_registers<kSelectorRegisters>();
    TileSelector(params, shared).run();
  }
}

bool is_valid(const TileSelectionParams& params) {
  if (params.total_queries < 0 || params.total_keys < 0 || params.num_heads <= 0 || params.num_key_value_heads <= 0 ||
      params.num_heads % params.num_key_value_heads != 0 || params.num_selected_heads < 0 ||
      params.num_selected_heads > std::min(params.num_heads, kTileMaxHeads) || params.sink_tokens < 0 ||
      params.window < 1 || params.num_sequences < 0 || (params.num_sequences > 0 && params.sequences == nullptr)) {
    return false;
  }
  int32_t previous = -1;
  for (int32_t r = 0; r < params.num_selected_heads; ++r) {
    if (params.selected_heads == nullptr || params.tile_shares == nullptr || params.selected_heads[r] <= previous ||
        params.selected_heads[r] >= params.num_heads || !(params.tile_shares[r] > 0) ||
        !std::isfinite(params.tile_shares[r])) {
      return false;
    }
    previous = params.selected_heads[r];
  }
  int64_t max_keys = 0;
  for (int32_t s = 0; s < params.num_sequences; ++s) {
    const PrefillSequence& sequence = params.sequences[s];
    if (sequence.query_count < 0 || sequence.key_count < sequence.query_count || sequence.query_begin < 0 ||
        sequence.key_begin < 0 || sequence.query_begin > params.total_queries - sequence.query_count ||
        sequence.key_begin > params.total_keys - sequence.key_count) {
      return false;
    }
    max_keys = std::max<int64_t>(max_keys, sequence.key_count);
  }
  const int64_t words = (max_keys + kPrefillKeyTile * 32 - 1) / (kPrefillKeyTile * 32);
  const auto is_aligned = [](const void* pointer) {
    return pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  };
  return words <= kMaxTileWords && params.selected_tiles_query_stride >= words && is_aligned(params.queries) &&
         is_aligned(params.keys) && params.gates != nullptr && params.lse_local != nullptr &&
         params.selected_tiles != nullptr && params.workspace != nullptr;
}

int32_t divide_up(int32_t a, int32_t b) {
  return (a + b - 1) / b;
}

/// Puts sequences [first, end) into the kernel's list, longest first; `first_query_tile` is that of sequence `first`.
void schedule(const TileSelectionParams& params, int32_t first, int32_t end, int32_t first_query_tile,
              TileSelectionKernelParams& kernel) {
  struct Entry {
    PrefillSequence sequence;
    int32_t first_query_tile;
  };
  std::vector<Entry> entries;
  for (int32_t s = first; s < end; ++s) {
    entries.push_back({params.sequences[s], first_query_tile});
    first_query_tile += divide_up(params.sequences[s].query_count, kPrefillQueryTile);
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.sequence.key_count > b.sequence.key_count; });
  kernel.num_items = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    kernel.sequences[i] = entries[i].sequence;
    kernel.first_query_tile[i] = entries[i].first_query_tile;
    kernel.first_item[i] = kernel.num_items;
    kernel.num_items += divide_up(entries[i].sequence.query_count, kRunQueries) * params.num_selected_heads;
  }
  kernel.first_item[entries.size()] = kernel.num_items;
}

cudaError_t launch(const TileSelectionKernelParams& kernel, int32_t multiprocessors, cudaStream_t stream) {
  constexpr size_t kSharedBytes = sizeof(TileSharedMemory);
  cudaError_t error =
      cudaFuncSetAttribute(tile_selection_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (error == cudaSuccess) {
    error = cudaMemsetAsync(kernel.next_item, 0, sizeof(int32_t), stream);
  }
  if (error != cudaSuccess) {
    return error;
  }
  const auto blocks = static_cast<unsigned>(std::min(multiprocessors, kernel.num_items));
  tile_selection_kernel<<<blocks, kSelectorThreads, kSharedBytes, stream>>>(kernel);
  return cudaGetLastError();
}

}  // namespace

cudaError_t tile_selection(const TileSelectionParams& params, cudaStream_t stream) {
  if (!is_valid(params)) {
    return cudaErrorInvalidValue;
  }
  if (params.num_selected_heads == 0 || params.total_queries == 0 || params.num_sequences == 0) {
    return cudaSuccess;
  }
  TileSelectionKernelParams kernel;
  const int32_t heads_per_group = params.num_heads / params.num_key_value_heads;
  int16_t groups = 0;
  for (int32_t r = 0; r < params.num_selected_heads; ++r) {
    const bool new_group =
        r > 0 && params.selected_heads[r] / heads_per_group != params.selected_heads[r - 1] / heads_per_group;
    groups = static_cast<int16_t>(groups + (new_group ? 1 : 0));
    kernel.heads[r] = static_cast<int16_t>(params.selected_heads[r]);
    kernel.groups[r] = groups;
    kernel.log_tile_shares[r] = std::log(params.tile_shares[r]);
  }
  int device = 0;
  int multiprocessors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  if (error == cudaSuccess) {
    error = make_index_map(params.keys, params.total_keys, groups + 1, 1, kScoreKeys, kernel.keys);
  }
  if (error == cudaSuccess) {
    error =
        make_index_map(params.keys, params.total_keys, groups + 1, kTileSampleStride, kScoreKeys, kernel.sampled_keys);
  }
  kernel.queries = static_cast<const uint16_t*>(params.queries);
  kernel.gates = params.gates;
  kernel.lse_local = params.lse_local;
  kernel.selected_tiles = params.selected_tiles;
  kernel.lse_far = params.lse_far;
  kernel.next_item = params.workspace;
  kernel.gates_head_stride = params.gates_head_stride;
  kernel.lse_head_stride = params.lse_head_stride;
  kernel.selected_tiles_head_stride = params.selected_tiles_head_stride;
  kernel.selected_tiles_query_stride = params.selected_tiles_query_stride;
  kernel.num_selected_heads = params.num_selected_heads;
  kernel.sink_tokens = params.sink_tokens;
  kernel.window = params.window;

  int32_t query_tiles = 0;
  for (int32_t first = 0; first < params.num_sequences && error == cudaSuccess; first += kTileMaxSequences) {
    const int32_t end = std::min(first + kTileMaxSequences, params.num_sequences);
    schedule(params, first, end, query_tiles, kernel);
    for (int32_t s = first; s < end; ++s) {
      query_tiles += divide_up(params.sequences[s].query_count, kPrefillQueryTile);
    }
    if (kernel.num_items > 0) {
      error = launch(kernel, multiprocessors, stream);
    }
  }
  return error;
}

}  // namespace retrosparse::kernels::sm90
