#pragma once
// Second kernel of decode selection: what of a row's scores can be among those that the rule takes, its candidates. It
// does not depend on the attention that lse_local comes from.
//
// If the rule can take up to `most` keys, no score below the `most`-th highest maximum of disjoint groups of keys can
// be among them. Every block of a row finds that threshold from the maxima of the tiles (or of groups of tiles), takes
// a segment of the tiles, and reads those that reach it.
//
// The launch between the scores and this one's readers may be the attention, so that this one does not wait for the
// launch of the scores to end but counts its blocks. They all run by then: a launch lets the next one start when its
// last block has started.
#include "sm90/selection_index.cuh"
#include "sm90/selection_threshold.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kTileCapacity = 5120;

struct CandidatesSharedMemory {
  ThresholdSharedMemory threshold;
  int32_t tiles[kTileCapacity];  ///< of the segment, those that hold candidates
  float query[kIndexDim];
  BlockScan::Shared scan;
};

class SelectionCandidates {
 public:
  __device__ SelectionCandidates(const SelectionKernelParams& params, CandidatesSharedMemory& shared)
      : params_(params),
        shared_(shared),
        scan_(shared.scan),
        block_(static_cast<int32_t>(blockIdx.x) % params.segments),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        row_(params, static_cast<int32_t>(blockIdx.x) / params.segments) {}

  /// By the whole block. Returns whether it is the last of the row's blocks to be done: all candidates are listed then.
  /// `sets_flag`: somebody waits for that.
  __device__ bool run(bool sets_flag) {
    shared_.threshold.histogram.clear();
    if (threadIdx.x < kIndexDim) {
      shared_.query[threadIdx.x] = params_.queries[static_cast<int64_t>(row_.index) * kIndexDim + threadIdx.x];
    }
    row_.find_end(params_);
    wait_for_counter(params_.counters + row_.index, params_.blocks);
    const uint32_t far_count = row_.far_count(params_);
    const uint32_t most = min(far_count, row_.most);
    if (most > 0) {
      find_tiles(most);
      keeps_scores(far_count, row_.most) ? gather<kScoresAtOnce>() : gather<kKeysAtOnce>();
    }
    __syncthreads();
    bool is_last = false;
    if (threadIdx.x == 0) {
      int32_t* counter = params_.counters + row_.index;
      is_last = add_acquired_released(counter, 1) == params_.blocks + params_.segments - 1;
      if (is_last) {
        *counter = 0;  // for the next launch of the scores
        if (sets_flag) {
          store_released(params_.listed + row_.index, 1);
        }
      }
    }
    return __syncthreads_or(is_last) != 0;
  }

 private:
  static constexpr int kScoresAtOnce = 12;  // tiles that a warp reads together
  static constexpr int kKeysAtOnce = 4;     // the same where keys are scored again
  static constexpr int kOwnRounds = 4;      // of 32 maxima that a warp keeps: 1M keys for a whole cluster

  /// Of the tiles with far keys every block has a run, and every warp a run of those. visit(tile, maximum), 0 past the
  /// end, by whole warps in order.
  template <class Visit>
  __device__ void for_each_tile(const Visit& visit) const {
#pragma unroll
    for (int round = 0; round < kOwnRounds; ++round) {
      if (own_begin_ + 32 * round < own_end_) {
        visit(own_begin_ + 32 * round + lane_, own_maxima_[round]);
      }
    }
    for (int32_t tile = own_begin_ + 32 * kOwnRounds + lane_; tile - lane_ < own_end_; tile += 32) {
      visit(tile, maximum(tile));
    }
  }
  __device__ uint32_t maximum(int32_t tile) const {
    return tile < own_end_ ? __ldcg(params_.tile_maxima + static_cast<int64_t>(row_.index) * params_.tiles + tile) : 0;
  }

  /// Lists those of the block's tiles that hold some of the `most` highest scores, in order.
  __device__ void find_tiles(uint32_t most) {
    const int32_t first_tile = params_.sink_tokens / kScoreTile;
    const int32_t end_tile = (row_.far_end + kScoreTile - 1) / kScoreTile;
    const int32_t block_begin = first_tile + part_of(end_tile - first_tile, block_, params_.segments);
    const int32_t block_count = first_tile + part_of(end_tile - first_tile, block_ + 1, params_.segments) - block_begin;
    own_begin_ = block_begin + part_of(block_count, warp_, kPickWarps);
    own_end_ = block_begin + part_of(block_count, warp_ + 1, kPickWarps);
#pragma unroll
    for (int round = 0; round < kOwnRounds; ++round) {
      own_maxima_[round] = maximum(own_begin_ + 32 * round + lane_);
    }
    const auto [threshold, highest] =
        SelectionThreshold(params_, row_, shared_.threshold, scan_).find(first_tile, end_tile, most);
    threshold_ = threshold;
    highest_ = highest;
    uint32_t own_taken = 0;
    for_each_tile([&](int32_t, uint32_t key) { own_taken += __popc(__ballot_sync(0xffffffffu, key >= threshold_)); });
    const BlockScan::Result slots = scan_.across_warps(own_taken);
    num_tiles_ = static_cast<int32_t>(slots.total);
    uint32_t slot = slots.before;
    for_each_tile([&](int32_t tile, uint32_t key) {
      const uint32_t lanes = __ballot_sync(0xffffffffu, key >= threshold_);
      const uint32_t own_slot = slot + __popc(lanes & lanes_below());
      if (key >= threshold_ && own_slot < kTileCapacity) {
        shared_.tiles[own_slot] = tile;
      }
      slot += __popc(lanes);
    });
    __syncthreads();
  }

  __device__ static int32_t part_of(int32_t count, int32_t part, int32_t parts) {
    return static_cast<int32_t>(static_cast<int64_t>(count) * part / parts);
  }

  __device__ uint32_t lanes_below() const {
    return (1u << lane_) - 1;
  }

  /// Order keys of the lane's key of listed tiles first, first + 1 ..., 0 past the end of the list.
  template <int kAtOnce>
  __device__ void read_tiles(int32_t first, int32_t listed, int32_t (&tiles)[kAtOnce],
                             uint32_t (&keys)[kAtOnce]) const {
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      tiles[i] = first + i < listed ? shared_.tiles[first + i] : -1;
    }
    if constexpr (kAtOnce == kScoresAtOnce) {
      const float* scores = params_.scores + static_cast<int64_t>(row_.index) * params_.tiles * kScoreTile + lane_;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        keys[i] = tiles[i] >= 0 ? __float_as_uint(__ldcg(scores + static_cast<int64_t>(tiles[i]) * kScoreTile)) : 0;
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        keys[i] = tiles[i] >= 0 ? order_key(__uint_as_float(keys[i])) : 0;
      }
    } else {
      const IndexKeys index(params_.cache, row_.group, row_.sequence);
      uint4 halves[kAtOnce][2];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int32_t n = min(max(tiles[i], 0) * kScoreTile + lane_, row_.far_end - 1);
        const auto* key = reinterpret_cast<const uint4*>(index.key(n));
        halves[i][0] = __ldg(key);
        halves[i][1] = __ldg(key + 1);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        float score = 0;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float values[8];
          unpack(halves[i][half], values);
          add_products(score, &shared_.query[8 * half], values);
        }
        const int32_t n = tiles[i] * kScoreTile + lane_;
        keys[i] = tiles[i] >= 0 && n >= params_.sink_tokens && n < row_.far_end ? order_key(score) : 0;
      }
    }
  }

  /// Reads the listed tiles; what reaches the threshold goes, in order, to the segment's candidates if it fits.
  template <int kAtOnce>
  __device__ void gather() {
    const int64_t segment = static_cast<int64_t>(row_.index) * params_.segments + block_;
    Candidate* out = params_.candidates + segment * kCandidates;
    const int32_t listed = min(num_tiles_, kTileCapacity);
    uint32_t count = 0;
#pragma unroll 1
    for (int32_t first = 0; first < listed; first += kAtOnce * kPickWarps) {
      int32_t tiles[kAtOnce];
      uint32_t keys[kAtOnce];
      read_tiles<kAtOnce>(first + warp_ * kAtOnce, listed, tiles, keys);
      uint32_t found = 0;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        found += __popc(__ballot_sync(0xffffffffu, keys[i] >= threshold_));
      }
      const BlockScan::Result slots = scan_.across_warps(found);
      uint32_t slot = count + slots.before;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const uint32_t lanes = __ballot_sync(0xffffffffu, keys[i] >= threshold_);
        const uint32_t own_slot = slot + __popc(lanes & lanes_below());
        if (keys[i] >= threshold_ && own_slot < kCandidates) {
          out[own_slot] = {keys[i], tiles[i] * kScoreTile + lane_};
        }
        slot += __popc(lanes);
      }
      count += slots.total;
    }
    if (threadIdx.x == 0) {
      // More tiles than the list holds: all keys are scored again.
      params_.candidate_sums[segment] = {num_tiles_ <= kTileCapacity ? count : kCandidates + 1, threshold_, highest_};
    }
  }

  const SelectionKernelParams& params_;
  CandidatesSharedMemory& shared_;
  BlockScan scan_;
  const int32_t block_;  ///< of the row
  const int32_t lane_, warp_;
  SelectionRow row_;
  int32_t own_begin_ = 0, own_end_ = 0;
  uint32_t own_maxima_[kOwnRounds];
  uint32_t threshold_ = 0, highest_ = 0;
  int32_t num_tiles_ = 0;
};

}  // namespace retrosparse::kernels::sm90
