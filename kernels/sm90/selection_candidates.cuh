#pragma once
// Second kernel of decode selection: what of a row's scores can be among those that the rule takes, its candidates. It
// does not depend on the attention that lse_local comes from.
//
// If the rule can take up to `most` keys, no score below the `most`-th highest maximum of disjoint groups of keys can
// be among them. Every block of a row's cluster finds that threshold from the maxima of the tiles (or of groups of
// tiles), takes a share of the tiles, and reads those that reach it.
#include <cooperative_groups.h>

#include "sm90/selection_radix.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kMaxCandidateCluster = 8;
inline constexpr int kTileCapacity = 5120;

struct CandidatesSharedMemory {
  Candidate candidates[kCandidates];  ///< the block's own
  RadixHistogram histogram;
  int32_t tiles[kTileCapacity];  ///< of the block's share, those that hold candidates
  uint32_t peer_counts[kMaxCandidateCluster];
  BlockScan::Shared scan;
  RadixResult result;
};

/// kTile: keys that share a maximum.
template <int kTile>
class SelectionCandidates {
 public:
  /// Touches nothing that earlier launches write.
  __device__ SelectionCandidates(const SelectionKernelParams& params, CandidatesSharedMemory& shared)
      : params_(params),
        shared_(shared),
        cluster_(cooperative_groups::this_cluster()),
        scan_(shared.scan),
        block_(static_cast<int32_t>(cluster_.block_rank())),
        blocks_(static_cast<int32_t>(cluster_.num_blocks())),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        row_(params, static_cast<int32_t>(blockIdx.x) / blocks_) {
    shared.histogram.clear();
    cluster_.sync();  // the other blocks run: their shared memory may be written
  }

  __device__ void run() {
    if (threadIdx.x < params_.blocks) {
      largest_exponent_ = params_.sums[static_cast<int64_t>(row_.index) * params_.blocks + threadIdx.x].reference;
    }
    row_.find_end(params_);
    const uint32_t most = min(row_.far_count(params_), row_.most);
    if (most > 0) {
      find_tiles(most);
      gather();
    }
  }

 private:
  static constexpr float kLn2 = 0.69314718f;
  static constexpr int kLaneScores = 16;
  static constexpr int kTileBatch = 32 * kLaneScores / kTile;  // tiles that a warp reads together
  static constexpr int kOwnRounds = 4;          // of 32 maxima that a warp keeps: 1M keys for a whole cluster
  static constexpr int kGroups = 16;            // of keys, to a thread
  static constexpr uint32_t kSpareGroups = 64;  // whose best keys may be candidates in vain

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
  __device__ const uint32_t* row_maxima() const {
    return params_.maxima + static_cast<int64_t>(row_.index) * params_.tiles * (kScoreTile / kTile);
  }
  __device__ uint32_t maximum(int32_t tile) const {
    return tile < own_end_ ? __ldcg(row_maxima() + tile) : 0;
  }

  /// Maxima of disjoint groups of keys: as many groups as a block holds in registers, of tiles, or of fewer keys where
  /// the tiles are hardly more than `most`. Returns the number of groups.
  __device__ int32_t read_groups(int32_t first_tile, int32_t end_tile, uint32_t most,
                                 uint32_t (&groups)[kGroups]) const {
    const auto thread = static_cast<int32_t>(threadIdx.x);
    const auto enough = static_cast<int32_t>(most + most / 4);
    const int32_t tiles = end_tile - first_tile;
    if (tiles < enough && tiles * (kTile / 16) <= kGroups * kPickThreads) {
      const int32_t size = tiles * (kTile / 16) < enough ? 4 : 16;
      const int32_t count = min(tiles * (kTile / size), kGroups * kPickThreads);
      const int64_t first_score =
          static_cast<int64_t>(row_.index) * params_.tiles * kScoreTile + static_cast<int64_t>(first_tile) * kTile;
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        const int32_t group = i * kPickThreads + thread;
        groups[i] = 0;
        for (int32_t j = 0; j < size && group < count; j += 4) {
          const auto* scores = reinterpret_cast<const float4*>(params_.scores + first_score + group * size + j);
          const float4 four = __ldcg(scores);
          groups[i] = max(groups[i], order_key(fmaxf(fmaxf(four.x, four.y), fmaxf(four.z, four.w))));
        }
      }
      return count;
    }
    const uint32_t* maxima = row_maxima() + first_tile;
    int32_t size = 1;
    while (tiles > size * kGroups * kPickThreads) {
      size *= 2;
    }
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      groups[i] = 0;
    }
    if (size % 2 == 0 && reinterpret_cast<uintptr_t>(maxima) % sizeof(uint2) == 0) {  // two maxima in one access
      for (int32_t other = 0; other < size; other += 2) {
#pragma unroll
        for (int i = 0; i < kGroups; ++i) {
          const int32_t tile = (i * kPickThreads + thread) * size + other;
          const uint2 pair = tile < tiles ? __ldcg(reinterpret_cast<const uint2*>(maxima + tile)) : make_uint2(0, 0);
          groups[i] = max(groups[i], max(pair.x, tile + 1 < tiles ? pair.y : 0));
        }
      }
      return (tiles + size - 1) / size;
    }
    for (int32_t other = 0; other < size; ++other) {
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        const int32_t tile = (i * kPickThreads + thread) * size + other;
        groups[i] = max(groups[i], tile < tiles ? __ldcg(maxima + tile) : 0);
      }
    }
    return (tiles + size - 1) / size;
  }

  /// Sets threshold_ to a score that at least `most` keys reach.
  __device__ void find_threshold(int32_t first_tile, int32_t end_tile, uint32_t most) {
    uint32_t groups[kGroups];
    const int32_t count = read_groups(first_tile, end_tile, most, groups);
    // An upper bound for the scores: the references are their largest exponents, but for rounding.
    constexpr uint32_t kRoundings = 16;
    highest_ = scan_.maximum(order_key(largest_exponent_ * kLn2)) + kRoundings;
    threshold_ = kNoScore + 1;
    if (count > static_cast<int32_t>(most)) {
      const auto for_each = [&](const auto& visit) {
#pragma unroll
        for (int i = 0; i < kGroups; ++i) {
          if (i * kPickThreads < count) {
            visit(groups[i], 0u);
          }
        }
      };
      const auto good_enough = [](const RadixResult& result) { return result.equal <= kSpareGroups; };
      threshold_ = radix_select(shared_.histogram, shared_.result, scan_, {most, most, 0}, {threshold_, highest_},
                                pivot(threshold_, highest_), for_each, good_enough)
                       .low;
    }
  }

  /// Lists those of the block's tiles that hold some of the `most` highest scores, in order.
  __device__ void find_tiles(uint32_t most) {
    const int32_t first_tile = params_.sink_tokens / kTile;
    const int32_t end_tile = (row_.far_end + kTile - 1) / kTile;
    const int32_t block_begin = first_tile + part_of(end_tile - first_tile, block_, blocks_);
    const int32_t block_count = first_tile + part_of(end_tile - first_tile, block_ + 1, blocks_) - block_begin;
    own_begin_ = block_begin + part_of(block_count, warp_, kPickWarps);
    own_end_ = block_begin + part_of(block_count, warp_ + 1, kPickWarps);
#pragma unroll
    for (int round = 0; round < kOwnRounds; ++round) {
      own_maxima_[round] = maximum(own_begin_ + 32 * round + lane_);
    }
    find_threshold(first_tile, end_tile, most);
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

  /// The lane's scores, neighbours, of kTileBatch listed tiles from `first` on, as order keys; returns the position of
  /// the first.
  __device__ int32_t read_tiles(int32_t first, uint32_t (&keys)[kLaneScores]) const {
    constexpr int kLanes = kTile / kLaneScores;  // to a tile
    const int32_t number = first + lane_ / kLanes;
    const bool exists = number < min(num_tiles_, kTileCapacity);
    const int32_t position = exists ? shared_.tiles[number] * kTile + lane_ % kLanes * kLaneScores : 0;
    const float* scores = params_.scores + static_cast<int64_t>(row_.index) * params_.tiles * kScoreTile + position;
#pragma unroll
    for (int i = 0; i < kLaneScores; i += 4) {
      const float4 four = exists ? __ldcg(reinterpret_cast<const float4*>(scores + i))
                                 : make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
      keys[i] = order_key(four.x);
      keys[i + 1] = order_key(four.y);
      keys[i + 2] = order_key(four.z);
      keys[i + 3] = order_key(four.w);
    }
    return position;
  }

  /// Every block reads its listed tiles; what reaches the threshold goes, in order, to the row's candidates if it fits.
  __device__ void gather() {
    uint32_t own = 0;  // of the block
    for (int32_t first = 0; first < min(num_tiles_, kTileCapacity); first += kTileBatch * kPickWarps) {
      uint32_t keys[kLaneScores];
      const int32_t position = read_tiles(first + warp_ * kTileBatch, keys);
      uint32_t found = 0;
#pragma unroll
      for (const uint32_t key : keys) {
        found += key >= threshold_ ? 1 : 0;
      }
      uint2 all = {0, 0};
      uint32_t slot = own + scan_.before({found, 0}, all).x;
#pragma unroll
      for (int i = 0; i < kLaneScores; ++i) {
        if (keys[i] >= threshold_ && slot < kCandidates) {
          shared_.candidates[slot++] = {keys[i], position + i};
        }
      }
      own += all.x;
    }
    // More tiles than the list holds: the scores are read where they are.
    if (static_cast<int32_t>(threadIdx.x) < blocks_) {
      cluster_.map_shared_rank(shared_.peer_counts, threadIdx.x)[block_] =
          num_tiles_ <= kTileCapacity ? own : kCandidates + 1;
    }
    cluster_.sync();
    uint32_t before = 0;
    uint32_t total = 0;
    for (int32_t peer = 0; peer < blocks_; ++peer) {
      before += peer < block_ ? shared_.peer_counts[peer] : 0;
      total += shared_.peer_counts[peer];
    }
    if (total <= kCandidates) {
      Candidate* out = params_.candidates + static_cast<int64_t>(row_.index) * kCandidates + before;
      for (uint32_t i = threadIdx.x; i < own; i += kPickThreads) {
        out[i] = shared_.candidates[i];
      }
    }
    if (block_ == 0 && threadIdx.x == 0) {
      params_.candidate_sums[row_.index] = {total, threshold_, highest_};
    }
  }

  const SelectionKernelParams& params_;
  CandidatesSharedMemory& shared_;
  const cooperative_groups::cluster_group cluster_;
  BlockScan scan_;
  const int32_t block_, blocks_;  ///< in the cluster
  const int32_t lane_, warp_;
  SelectionRow row_;
  float largest_exponent_ = -INFINITY;  ///< of the keys of block threadIdx.x of the first kernel
  int32_t own_begin_ = 0, own_end_ = 0;
  uint32_t own_maxima_[kOwnRounds];
  uint32_t threshold_ = 0, highest_ = 0;
  int32_t num_tiles_ = 0;
};

}  // namespace retrosparse::kernels::sm90
