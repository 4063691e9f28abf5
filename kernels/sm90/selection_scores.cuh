#pragma once
// First launch of decode selection: one pass over the index keys. Every warp scores a run of keys of its own, which it
// copies ahead into its own ring, and leaves the keys that reach a row's threshold and the weight of all. The scores of
// the first tiles wait in shared memory until the threshold is there.
#include "sm90/mma.cuh"
#include "sm90/selection_threshold.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kScoreStages = 3;
inline constexpr int kMostRowsAtOnce = 8;
inline constexpr int kWaitingTiles = 24;  ///< of one row

struct ScoreSharedMemory {
  uint4 keys[kScoreWarps][kScoreStages][kScoreTile][2];  ///< half h of key n lies at half h ^ n / 4 % 2
  float waiting[kScoreWarps][kWaitingTiles][kScoreTile];
  float queries[kMostRowsAtOnce][kIndexDim];
};

/// The scores of up to `kRows` rows of one index group for one block's share of the far keys.
template <int kRows>
class SelectionScores {
 public:
  /// Block `block` of params.score_blocks() of the sequence.
  __device__ SelectionScores(const SelectionKernelParams& params, ScoreSharedMemory& shared, int32_t block,
                             int32_t sequence)
      : params_(params),
        shared_(shared),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        sequence_(sequence),
        group_(block / params.plan.splits / params.plan.row_chunks),
        first_row_(block / params.plan.splits % params.plan.row_chunks * kRows),
        segment_(block % params.plan.splits * kScoreWarps + warp_),
        key_count_(params.key_counts[sequence]),
        index_(params.cache, sequence, group_) {}

  __device__ void run() {
    const int32_t first_head = params_.first_of_group[group_];
    const int32_t heads = params_.first_of_group[group_ + 1] - first_head;
    rows_ = min(kRows, heads * params_.query_tokens - first_row_);
    if (rows_ <= 0) {
      return;
    }
    find_run();
#pragma unroll 1
    for (int stage = 0; stage < kScoreStages; ++stage) {
      copy_tile(stage, first_tile_ + stage);
    }
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const int32_t own = first_row_ + min(row, rows_ - 1);
      const int32_t token = own / heads;
      row_index_[row] =
          (sequence_ * params_.query_tokens + token) * params_.num_selected_heads + first_head + own % heads;
      far_end_[row] = key_count_ - params_.query_tokens + token - params_.window + 1;
      if (threadIdx.x < kIndexDim) {
        shared_.queries[row][threadIdx.x] =
            __ldg(params_.queries + static_cast<int64_t>(row_index_[row]) * kIndexDim + threadIdx.x);
      }
    }
    __syncthreads();
    // The keys of a tile are read from the ring while the tile before is scored.
    RawKeys keys;
    int32_t stage = 0;
#pragma unroll 1
    for (int32_t tile = first_tile_; tile <= end_tile_; ++tile) {
      const RawKeys previous = keys;
      copy_async_wait<kScoreStages - 1>();
      __syncwarp();
      read_keys(stage, keys);
      __syncwarp();
      copy_tile(stage, tile + kScoreStages);
      stage = stage + 1 == kScoreStages ? 0 : stage + 1;
      if (tile > first_tile_) {
        const bool is_last = tile == end_tile_;
        uint32_t polled[kRows];
        poll(polled);
        score_tile(tile - 1, previous);
        settle(polled, tile - first_tile_, is_last);
      }
    }
    copy_async_wait<0>();
    leave_segments();
  }

 private:
  static constexpr float kLog2E = 1.44269504f;

  /// The tiles of this warp: the segments of a row share those with far keys in order.
  __device__ void find_run() {
    const int32_t first = params_.sink_tokens / kScoreTile;
    const int32_t last_end = key_count_ - params_.window;  // of the last query token
    const int32_t end = last_end > params_.sink_tokens ? (last_end + kScoreTile - 1) / kScoreTile : first;
    const int32_t run = (end - first + params_.plan.segments() - 1) / params_.plan.segments();
    first_tile_ = min(end, first + segment_ * run);
    end_tile_ = min(end, first_tile_ + run);
  }

  static constexpr int kLaneKeys = kScoreTile / 32;  // of a tile: lane + 32 i
  struct RawKeys {
    uint4 halves[kLaneKeys][2];
  };

  /// Starts the copy of a tile if it is one of the run's; its keys past the last repeat that.
  __device__ void copy_tile(int32_t stage, int32_t tile) {
    if (tile < end_tile_) {
      constexpr int kSteps = kScoreTile / 16;  // of 16 keys, two lanes to a key
      const int32_t first = tile * kScoreTile;
      const int32_t own = lane_ / 2;
      const int32_t half = lane_ % 2;
      const uint32_t to = shared_address(&shared_.keys[warp_][stage][own][half ^ own / 4 % 2]);
      if (first + kScoreTile <= key_count_ && index_.lie_together(kScoreTile)) {
        const uint4* from = index_.key(first) + lane_;
#pragma unroll
        for (int i = 0; i < kSteps; ++i) {
          copy_async(to + i * 512, from + i * 32, true);
        }
      } else {
#pragma unroll 1
        for (int i = 0; i < kSteps; ++i) {
          copy_async(to + i * 512, index_.key(min(first + 16 * i + own, key_count_ - 1)) + half, true);
        }
      }
    }
    copy_async_commit();  // an empty group keeps the count
  }

  __device__ void read_keys(int32_t stage, RawKeys& keys) const {
    const int32_t swapped = lane_ / 4 % 2;
#pragma unroll
    for (int i = 0; i < kLaneKeys; ++i) {
      const auto& halves = shared_.keys[warp_][stage][lane_ + 32 * i];
      keys.halves[i][0] = halves[swapped];
      keys.halves[i][1] = halves[swapped ^ 1];
    }
  }

  __device__ void score_tile(int32_t tile, const RawKeys& keys) {
    float values[kLaneKeys][kIndexDim];
#pragma unroll
    for (int i = 0; i < kLaneKeys; ++i) {
      unpack_key(keys.halves[i][0], keys.halves[i][1], values[i]);
    }
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      if (row < rows_) {
        float query[kIndexDim];
#pragma unroll
        for (int i = 0; i < kIndexDim; i += 4) {
          const float4 four = *reinterpret_cast<const float4*>(&shared_.queries[row][i]);
          query[i] = four.x;
          query[i + 1] = four.y;
          query[i + 2] = four.z;
          query[i + 3] = four.w;
        }
        float scores[kLaneKeys];
#pragma unroll
        for (int i = 0; i < kLaneKeys; ++i) {
          scores[i] = index_score(query, values[i]);
        }
        mask(row, tile, scores);
        add_weights(weights_[row], scores);
        if (settled_) {
          list(row, tile, scores);
        } else {
          float* waiting = waiting_scores(tile - first_tile_, row);
#pragma unroll
          for (int i = 0; i < kLaneKeys; ++i) {
            waiting[32 * i] = scores[i];
          }
        }
      }
    }
  }

  /// Only far keys count.
  __device__ void mask(int row, int32_t tile, float (&scores)[kLaneKeys]) const {
    const int32_t first = tile * kScoreTile;
    if (first < params_.sink_tokens || first + kScoreTile > far_end_[row]) {
#pragma unroll
      for (int i = 0; i < kLaneKeys; ++i) {
        const int32_t key = first + lane_ + 32 * i;
        scores[i] = key >= params_.sink_tokens && key < far_end_[row] ? scores[i] : -INFINITY;
      }
    }
  }

  __device__ static float highest_of(const float (&scores)[kLaneKeys]) {
    float highest = scores[0];
#pragma unroll
    for (int i = 1; i < kLaneKeys; ++i) {
      highest = fmaxf(highest, scores[i]);
    }
    return highest;
  }

  __device__ static void add_weights(WeightSum& weight, const float (&scores)[kLaneKeys]) {
    const float exponent = highest_of(scores) * kLog2E;
    if (exponent > weight.reference) {
      weight.sum *= exp2_approximate(weight.reference - exponent);
      weight.reference = exponent;
    }
    if (weight.reference != -INFINITY) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kLaneKeys; ++i) {
        sum += exp2_approximate(fmaf(scores[i], kLog2E, -weight.reference));
      }
      weight.sum += sum;
    }
  }

  /// This lane's scores of the run's tile `number`, 32 apart.
  __device__ float* waiting_scores(int32_t number, int row) {
    return &shared_.waiting[warp_][number * kRows + row][lane_];
  }

  __device__ const uint32_t* threshold_place(int row) const {
    return params_.thresholds + row_index_[row];
  }

  /// Asks for the thresholds; the answers are not looked at before a tile has been scored.
  __device__ void poll(uint32_t (&polled)[kRows]) const {
    if (!settled_) {
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        polled[row] = poll_threshold(threshold_place(row));
      }
    }
  }

  /// Once the thresholds are there, or nothing more can wait for them: lists what waits of the run's first `tiles`
  /// tiles. Blocks start in the order of their index, so that those which find thresholds, the first ones, run already.
  __device__ void settle(uint32_t (&polled)[kRows], int32_t tiles, bool is_last) {
    if (settled_) {
      return;
    }
    const bool must_wait = is_last || tiles == kWaitingTiles / kRows;
    bool all_there = false;
    do {
      all_there = true;
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        polled[row] = polled[row] != 0 || !must_wait ? polled[row] : poll_threshold(threshold_place(row));
        all_there = all_there && polled[row] != 0;
      }
      all_there = __all_sync(0xffffffffu, all_there);
    } while (!all_there && must_wait);
    if (!all_there) {
      return;
    }
    settled_ = true;
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      threshold_[row] = from_order_key(polled[row]);
    }
#pragma unroll 1
    for (int32_t number = 0; number < tiles; ++number) {
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        if (row < rows_) {
          const float* waiting = waiting_scores(number, row);
          float scores[kLaneKeys];
#pragma unroll
          for (int i = 0; i < kLaneKeys; ++i) {
            scores[i] = waiting[32 * i];
          }
          list(row, first_tile_ + number, scores);
        }
      }
    }
  }

  /// Appends those of the lanes' scores that reach the row's threshold to its candidates.
  __device__ void list(int row, int32_t tile, const float (&scores)[kLaneKeys]) {
    if (!__any_sync(0xffffffffu, highest_of(scores) >= threshold_[row])) {
      return;
    }
    const uint32_t below = (1u << lane_) - 1;
    Candidate* out = params_.candidates + segment_index(row) * params_.plan.capacity;
#pragma unroll
    for (int i = 0; i < kLaneKeys; ++i) {
      // Where all far keys are candidates the threshold is that of keys which are not far.
      const bool taken = scores[i] >= threshold_[row] && scores[i] != -INFINITY;
      const uint32_t lanes = __ballot_sync(0xffffffffu, taken);
      if (taken) {
        out[counts_[row] + __popc(lanes & below)] = {order_key(scores[i]), tile * kScoreTile + lane_ + 32 * i};
      }
      counts_[row] += __popc(lanes);
    }
  }

  __device__ int64_t segment_index(int row) const {
    return static_cast<int64_t>(row_index_[row]) * params_.plan.segments() + segment_;
  }

  __device__ void leave_segments() {
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const WeightSum weight = sum_over_warp(weights_[row]);
      if (row < rows_ && lane_ == 0) {
        params_.segments[segment_index(row)] = {counts_[row], weight};
      }
    }
  }

  const SelectionKernelParams& params_;
  ScoreSharedMemory& shared_;
  const int32_t lane_, warp_, sequence_, group_;
  const int32_t first_row_;  ///< of the group's
  const int32_t segment_;
  const int32_t key_count_;
  const IndexKeys index_;
  int32_t rows_ = 0;
  int32_t first_tile_ = 0, end_tile_ = 0;
  int32_t row_index_[kRows];
  int32_t far_end_[kRows];
  bool settled_ = false;  ///< the thresholds are known
  float threshold_[kRows];
  uint32_t counts_[kRows] = {};
  WeightSum weights_[kRows];
};

}  // namespace retrosparse::kernels::sm90
