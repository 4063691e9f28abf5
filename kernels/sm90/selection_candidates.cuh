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

inline constexpr int kMostGroups = 8192;

// What runs here runs once, so that its instructions take as long to fetch as to run: small loops instead of unrolled
// ones, and shared memory instead of registers.
struct CandidatesSharedMemory {
  union {
    Candidate candidates[kCandidates];  ///< the block's own
    uint32_t groups[kMostGroups];       ///< maxima of groups of keys, until the threshold is known
  };
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
  /// While the scores are still computed: touches nothing of theirs.
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
    row_.find_end(params_);
    cluster_.sync();  // the other blocks run: their shared memory may be written
  }

  /// Not for the end of their launch, which waits for the attention.
  __device__ void wait_for_scores() const {
    if (threadIdx.x == 0) {
      while (load_acquired(params_.scored) != params_.score_blocks) {
      }
    }
    __syncthreads();
  }

  __device__ void run() {
    if (threadIdx.x < params_.blocks) {
      largest_exponent_ = params_.sums[static_cast<int64_t>(row_.index) * params_.blocks + threadIdx.x].reference;
    }
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
  static constexpr int kOwnTiles = 4;                          // of a thread, read ahead: 1M keys for a whole cluster
  static constexpr int32_t kMostEmpty = 6;                     // groups, before the first far key and behind the last
  static constexpr uint32_t kSpareGroups = 64;                 // whose best keys may be candidates in vain

  __device__ const uint32_t* row_maxima() const {
    return params_.maxima + static_cast<int64_t>(row_.index) * params_.tiles * (kScoreTile / kTile);
  }

  /// Leaves maxima of disjoint groups of keys in shared memory: of tiles, or of fewer keys where the tiles are hardly
  /// more than `most`. Returns the number of groups; a barrier has to follow.
  __device__ int32_t read_groups(int32_t first_tile, int32_t end_tile, uint32_t most) const {
    const auto thread = static_cast<int32_t>(threadIdx.x);
    const auto enough = static_cast<int32_t>(most + most / 4);
    const int32_t tiles = end_tile - first_tile;
    if (tiles < enough && tiles * (kTile / 16) <= kMostGroups) {
      const int32_t size = tiles * (kTile / 16) < enough ? 4 : 16;
      const int32_t count = min(tiles * (kTile / size), kMostGroups);
      const float* scores = params_.scores + static_cast<int64_t>(row_.index) * params_.tiles * kScoreTile +
                            static_cast<int64_t>(first_tile) * kTile;
#pragma unroll 2
      for (int32_t group = thread; group < count; group += kPickThreads) {
        uint32_t maximum = 0;
#pragma unroll 1
        for (int32_t i = 0; i < size; i += 4) {
          const float4 four = __ldcg(reinterpret_cast<const float4*>(scores + group * size + i));
          maximum = max(maximum, order_key(fmaxf(fmaxf(four.x, four.y), fmaxf(four.z, four.w))));
        }
        shared_.groups[group] = maximum;
      }
      return count;
    }
    const int32_t first_four = first_tile / 4;
    const int32_t fours = (end_tile + 3) / 4 - first_four;
    const bool by_tile = 4 * fours <= kMostGroups;
    int32_t each = 1;  // fours to a group, else
    while (fours > each * kMostGroups) {
      each *= 2;
    }
    const auto* maxima = reinterpret_cast<const uint4*>(row_maxima()) + first_four;
    const auto read = [&](int32_t i) {
      const int32_t tile = 4 * (first_four + i);
      uint4 four = i < fours ? __ldcg(maxima + i) : make_uint4(0, 0, 0, 0);
      four.x = tile >= first_tile && tile < end_tile ? four.x : 0;
      four.y = tile + 1 >= first_tile && tile + 1 < end_tile ? four.y : 0;
      four.z = tile + 2 >= first_tile && tile + 2 < end_tile ? four.z : 0;
      four.w = tile + 3 >= first_tile && tile + 3 < end_tile ? four.w : 0;
      return four;
    };
    if (!by_tile && each > 1) {
#pragma unroll 1
      for (int32_t group = thread; group < kMostGroups; group += kPickThreads) {
        shared_.groups[group] = 0;
      }
      __syncthreads();
    }
#pragma unroll 4
    for (int32_t i = thread; i < fours; i += kPickThreads) {
      const uint4 four = read(i);
      const uint32_t maximum = max(max(four.x, four.y), max(four.z, four.w));
      if (by_tile) {
        reinterpret_cast<uint4*>(shared_.groups)[i] = four;
      } else if (each == 1) {
        shared_.groups[i] = maximum;
      } else {
        atomicMax(&shared_.groups[i / each], maximum);
      }
    }
    return by_tile ? 4 * fours : (fours + each - 1) / each;
  }

  /// Sets threshold_ to a score that at least `most` keys reach.
  __device__ void find_threshold(int32_t first_tile, int32_t end_tile, uint32_t most) {
    const int32_t count = read_groups(first_tile, end_tile, most);
    // An upper bound for the scores: the references are their largest exponents, but for rounding.
    constexpr uint32_t kRoundings = 16;
    highest_ = scan_.maximum(order_key(largest_exponent_ * kLn2)) + kRoundings;
    threshold_ = kNoScore + 1;
    if (count - kMostEmpty > static_cast<int32_t>(most)) {
      const auto for_each = [&](const auto& visit) {
#pragma unroll 2
        for (int32_t group = threadIdx.x; group < count; group += kPickThreads) {
          visit(shared_.groups[group], 0u);
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
    const int32_t each = (block_count + kPickThreads - 1) / kPickThreads;  // to a thread, side by side
    const int32_t begin = block_begin + min(static_cast<int32_t>(threadIdx.x) * each, block_count);
    const int32_t end = min(begin + each, block_begin + block_count);
    const auto maximum = [&](int32_t tile) { return tile < end ? __ldcg(row_maxima() + tile) : 0; };
    uint32_t own[kOwnTiles];  // while the threshold is looked for
#pragma unroll
    for (int i = 0; i < kOwnTiles; ++i) {
      own[i] = maximum(begin + i);
    }
    find_threshold(first_tile, end_tile, most);
    const auto for_each_taken = [&](const auto& visit) {
#pragma unroll
      for (int i = 0; i < kOwnTiles; ++i) {
        if (own[i] >= threshold_) {
          visit(begin + i);
        }
      }
#pragma unroll 1
      for (int32_t tile = begin + kOwnTiles; tile < end; ++tile) {
        if (maximum(tile) >= threshold_) {
          visit(tile);
        }
      }
    };
    uint32_t taken = 0;
    for_each_taken([&](int32_t) { ++taken; });
    uint2 all = {0, 0};
    uint32_t slot = scan_.before({taken, 0}, all).x;
    num_tiles_ = static_cast<int32_t>(all.x);
    for_each_taken([&](int32_t tile) {
      if (slot < kTileCapacity) {
        shared_.tiles[slot] = tile;
      }
      ++slot;
    });
    __syncthreads();
  }

  __device__ static int32_t part_of(int32_t count, int32_t part, int32_t parts) {
    return static_cast<int32_t>(static_cast<int64_t>(count) * part / parts);
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
#pragma unroll 1
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
#pragma unroll 1
    for (int32_t peer = 0; peer < blocks_; ++peer) {
      before += peer < block_ ? shared_.peer_counts[peer] : 0;
      total += shared_.peer_counts[peer];
    }
    if (total <= kCandidates) {
      Candidate* out = params_.candidates + static_cast<int64_t>(row_.index) * kCandidates + before;
#pragma unroll 1
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
  uint32_t threshold_ = 0, highest_ = 0;
  int32_t num_tiles_ = 0;
};

}  // namespace retrosparse::kernels::sm90
