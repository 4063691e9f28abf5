#pragma once
// The producer warp of the prefill kernel: draws items, walks their key tiles and keeps the rings in shared memory
// full.
#include "sm90/prefill_shared.cuh"

namespace retrosparse::kernels::sm90 {

/// One row of `selected_tiles`, read by a whole warp, 1024 tiles at a time. Null: nothing is selected.
class WarpSelectedTiles {
 public:
  __device__ WarpSelectedTiles(const uint32_t* row, int32_t num_tiles, int32_t lane)
      : row_(row), num_words_((num_tiles + 31) / 32), lane_(lane) {}

  __device__ int32_t highest_below(int32_t tile) {
    if (row_ == nullptr) {
      return -1;
    }
    for (int32_t block = (tile - 1) / kSelectedPerBlock; block >= 0; --block) {
      load(block);
      const int32_t below = tile - block * kSelectedPerBlock - lane_ * 32;  // tiles of this lane's word that count
      const uint32_t word = below >= 32 ? word_ : (below <= 0 ? 0 : word_ & ((1u << below) - 1));
      const uint32_t lanes = __ballot_sync(0xffffffffu, word != 0);
      if (lanes != 0) {
        const int32_t top = 31 - __clz(lanes);
        return block * kSelectedPerBlock + top * 32 + 31 - __clz(__shfl_sync(0xffffffffu, word, top));
      }
    }
    return -1;
  }

  __device__ bool contains(int32_t tile) {
    if (row_ == nullptr) {
      return false;
    }
    load(tile / kSelectedPerBlock);
    return (__shfl_sync(0xffffffffu, word_, tile / 32 % 32) >> (tile % 32) & 1u) != 0;
  }

 private:
  static constexpr int32_t kSelectedPerBlock = 1024;

  __device__ void load(int32_t block) {
    if (block != block_) {
      block_ = block;
      const int32_t word = block * 32 + lane_;
      word_ = word < num_words_ ? row_[word] : 0;
    }
  }

  const uint32_t* row_;
  int32_t num_words_;
  int32_t lane_;
  int32_t block_ = -1;
  uint32_t word_ = 0;
};

/// Copies the two key tiles of a step; `tile_map` and `step_map` describe the same tensor.
template <class KeyTiles>
__device__ inline void load_step(KeyTiles& destination, const CUtensorMap* step_map, const CUtensorMap* tile_map,
                                 Barrier& barrier, const KeyStep& step, const PrefillSequence& sequence, int32_t group,
                                 int32_t total_keys) {
  barrier.arrive_expecting(sizeof(KeyTiles));
  if (step.flags & KeyStep::kContiguous) {
    tma_load(destination, step_map, barrier, 0, sequence.key_begin + step.first_key[0], 0, group);
    return;
  }
  constexpr int kHalves = sizeof(KeyTiles) / sizeof(destination[0]);
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    // Rows past the end of the tensor arrive as zeros.
    const int32_t row =
        step.first_key[tile] == KeyStep::kNoKeys ? total_keys : sequence.key_begin + step.first_key[tile];
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      tma_load(destination[half][tile * kPrefillKeyTile], tile_map, barrier, 0, row, half, group);
    }
  }
}

/// Rows of `values` past the sequence's last key get zeros: their weights are 0, but what lies there in memory may be
/// anything, and 0 * NaN is NaN. By the whole warp.
template <class KeyTiles>
__device__ inline void clear_past_end(KeyTiles& values, const KeyStep& step, int32_t key_count, int32_t lane) {
  constexpr int kHalves = sizeof(KeyTiles) / sizeof(values[0]);
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    const int32_t kept = key_count - step.first_key[tile];
    if (kept > 0 && kept < kPrefillKeyTile) {
      for (int half = 0; half < kHalves; ++half) {
        auto* rows = reinterpret_cast<uint4*>(values[half][tile * kPrefillKeyTile]);  // 8 to a row
        for (int32_t i = kept * 8 + lane; i < kPrefillKeyTile * 8; i += 32) {
          rows[i] = make_uint4(0, 0, 0, 0);
        }
      }
    }
  }
  fence_async_proxy();
  __syncwarp();
}

template <class Config>
class PrefillProducer {
 public:
  using Shared = PrefillSharedMemory<Config>;

  __device__ PrefillProducer(const PrefillKernelParams& params, Shared& shared)
      : params_(params), shared_(shared), lane_(threadIdx.x % 32) {}

  __device__ void run() {
    int32_t strip_cursor = 0;
    int32_t index = blockIdx.x;
    while (index < params_.schedule.num_items) {
      int32_t next_index = 0;
      if (lane_ == 0) {
        next_index = atomicAdd(params_.next_item, 1) + gridDim.x;  // early: its latency hides behind the item
      }
      produce(prefill_item(params_.schedule, index, strip_cursor));
      index = __shfl_sync(0xffffffffu, next_index, 0);
    }
    shared_.q_empty[query_ring_.stage].wait(query_ring_.parity ^ 1);
    if (lane_ == 0) {
      shared_.items[query_ring_.stage].query_row = ItemInfo::kStop;
      shared_.q_full[query_ring_.stage].arrive();
    }
  }

 private:
  __device__ void produce(const PrefillItem& item) {
    const PrefillSequence& sequence = params_.schedule.sequences[item.sequence];
    const int32_t first_query = item.query_tile * kPrefillQueryTile;
    const int32_t tiles_row = params_.schedule.tiles_row[item.head];
    const int32_t group = item.head / params_.heads_per_group;

    KeyRange range;
    range.first_position = sequence.key_count - sequence.query_count + first_query;
    const int32_t query_count = min(sequence.query_count - first_query, kPrefillQueryTile);
    range.last_position = range.first_position + query_count - 1;
    range.window = tiles_row == PrefillSchedule::kDenseRow ? KeyRange::kUnlimited : params_.window;
    range.sink_tokens = params_.sink_tokens;
    range.far_only = params_.part == PrefillPart::kSelected;

    const uint32_t* row = nullptr;
    if (tiles_row >= 0) {
      row = params_.selected_tiles + tiles_row * params_.selected_tiles_head_stride +
            (params_.schedule.first_query_tile[item.sequence] + item.query_tile) * params_.selected_tiles_query_stride;
    }
    WarpSelectedTiles selected(row, range.last_position / kPrefillKeyTile + 1, lane_);
    KeyWalk<WarpSelectedTiles> walk(range, selected);
    if (!walk.has_steps()) {
      return;
    }
    shared_.q_empty[query_ring_.stage].wait(query_ring_.parity ^ 1);
    if (lane_ == 0) {
      shared_.items[query_ring_.stage] = {sequence.query_begin + first_query, query_count, range.first_position,
                                          item.head, range.window};
      Barrier& full = shared_.q_full[query_ring_.stage];
      full.arrive_expecting(sizeof(typename Shared::QueryTile));
      tma_load(shared_.q[query_ring_.stage], &params_.q, full, 0, sequence.query_begin + first_query, 0, item.head);
    }
    query_ring_.advance();

    // In the order of consumption: the keys of step i + 1 are wanted before the values of step i.
    KeyStep step = walk.next();
    load_keys(step, sequence, group);
    while (!(step.flags & KeyStep::kLast)) {
      const KeyStep next = walk.next();
      load_keys(next, sequence, group);
      load_values(step, sequence, group);
      step = next;
    }
    load_values(step, sequence, group);
  }

  __device__ void load_keys(const KeyStep& step, const PrefillSequence& sequence, int32_t group) {
    const int32_t stage = key_ring_.stage;
    shared_.k_empty[stage].wait(key_ring_.parity ^ 1);
    if (lane_ == 0) {
      shared_.steps[stage] = step;
      load_step(shared_.k[stage], &params_.k_step, &params_.k_tile, shared_.k_full[stage], step, sequence, group,
                params_.total_keys);
    }
    key_ring_.advance();
  }

  __device__ void load_values(const KeyStep& step, const PrefillSequence& sequence, int32_t group) {
    const int32_t stage = value_ring_.stage;
    shared_.v_empty[stage].wait(value_ring_.parity ^ 1);
    const int32_t highest = step.flags & KeyStep::kContiguous ? step.first_key[1] : step.first_key[0];
    const int32_t past_end = highest + kPrefillKeyTile;
    const bool foreign_rows =
        past_end > sequence.key_count && sequence.key_begin + sequence.key_count < params_.total_keys;
    Barrier& full = foreign_rows ? shared_.v_landed : shared_.v_full[stage];
    if (lane_ == 0) {
      load_step(shared_.v[stage], &params_.v_step, &params_.v_tile, full, step, sequence, group, params_.total_keys);
    }
    if (foreign_rows) {
      full.wait(landed_parity_);
      landed_parity_ ^= 1;
      clear_past_end(shared_.v[stage], step, sequence.key_count, lane_);
      if (lane_ == 0) {
        shared_.v_full[stage].arrive();
      }
    }
    value_ring_.advance();
  }

  const PrefillKernelParams& params_;
  Shared& shared_;
  const int32_t lane_;
  Ring<Config::kQueryStages> query_ring_;
  Ring<Config::kKeyStages> key_ring_, value_ring_;
  uint32_t landed_parity_ = 0;
};

}  // namespace retrosparse::kernels::sm90
