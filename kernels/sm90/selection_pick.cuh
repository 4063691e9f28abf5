#pragma once
// Second kernel of decode selection: a cluster of blocks finds a row's highest scores without sorting them.
//
// If the rule can take up to `most` keys, the `most` highest scores lie in the `most` tiles of the highest maxima (each
// of those holds a score at least as high as the lowest of these maxima; ties go by position on both levels). Every
// block of the cluster finds these tiles by a radix selection, reads a share of their scores, and hands what is high
// enough to the first block. That one selects by count and weight, again digit by digit, and lists the keys in rising
// order of their positions.
#include <cooperative_groups.h>

#include "sm90/selection_radix.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kMaxPickCluster = 8;
inline constexpr int kCandidates = 8192;  ///< scores that fit in shared memory; more are read again where they are
inline constexpr int kTileCapacity = kMaxSelectedTokens + 1024;

struct PickSharedMemory {
  union {
    struct {  // the block's own; the first block collects all
      uint32_t candidate_keys[kCandidates];
      int32_t candidate_positions[kCandidates];
    };
    uint32_t maxima[2 * kCandidates];  ///< of the first tiles: all of 1M keys
  };
  RadixHistogram histogram;
  int32_t tiles[kTileCapacity];
  uint32_t peer_counts[kMaxPickCluster];
  BlockScan::Shared scan;
  ScoreSum warp_shares[kPickWarps];
  RadixResult result;
};

class SelectionPick {
 public:
  /// Touches nothing that earlier launches write.
  __device__ SelectionPick(const SelectionKernelParams& params, PickSharedMemory& shared, int32_t row)
      : params_(params),
        shared_(shared),
        cluster_(cooperative_groups::this_cluster()),
        scan_(shared.scan),
        row_(row),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        rank_(row % params.num_selected_heads),
        token_(row / params.num_selected_heads % params.query_tokens),
        sequence_(row / (params.query_tokens * params.num_selected_heads)),
        head_(params.heads[rank_]),
        p_(params.p[rank_]),
        least_(params.min_tokens[rank_]),
        most_(params.max_tokens[rank_]) {
    for (uint32_t i = threadIdx.x; i < kRadixDigits; i += kPickThreads) {
      shared.histogram.counts[i] = shared.histogram.weights[i] = 0;
    }
    cluster_.sync();  // the other blocks run: their shared memory may be written
  }

  __device__ void run() {
    const bool lists = cluster_.block_rank() == 0;
    if (lists) {  // on its way while the candidates are found
      const int64_t local = (static_cast<int64_t>(sequence_) * params_.query_tokens + token_) * params_.num_heads;
      gate_ = params_.gates[row_];
      lse_local_ = params_.lse_local[local + head_];
      if (threadIdx.x < params_.blocks) {
        block_sum_ = params_.sums[static_cast<int64_t>(row_) * params_.blocks + threadIdx.x];
      }
    }
    far_end_ = params_.far_end(sequence_, token_);
    const auto far_count = static_cast<uint32_t>(max(0, far_end_ - params_.sink_tokens));
    const uint32_t most = min(far_count, most_);
    if (most > 0) {
      find_tiles(most);
      gather_candidates();
    }
    if (lists) {
      const float share = share_to_cover(far_count);
      const uint32_t units = share > 1 ? UINT32_MAX : __float2uint_ru(fmaxf(share, 0) * TakeRule::kUnit);
      list({most, min(far_count, least_), units});
    }
  }

 private:
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLn2 = 0.69314718f;
  static constexpr uint32_t kNothing = 0x007fffffu;  // order_key(-inf)
  static constexpr int kTileBatch = 8;               // tiles that a warp reads together

  /// The share of the far keys' weight that the rule wants covered, from the log-sum-exp of the blocks of the first
  /// kernel.
  __device__ float share_to_cover(uint32_t far_count) {
    ScoreSum share = sum_over_warp(far_count > 0 ? block_sum_ : ScoreSum{-INFINITY, 0});
    if (lane_ == 0) {
      shared_.warp_shares[warp_] = share;
    }
    __syncthreads();
    share = sum_over_warp(lane_ < kPickWarps ? shared_.warp_shares[lane_] : ScoreSum{-INFINITY, 0});
    lse_far_log2_ = share.reference + log2f(share.sum);
    const float odds = lse_far_log2_ * kLn2 + gate_ - lse_local_;
    if (threadIdx.x == 0 && params_.far_mass != nullptr) {
      params_.far_mass[row_] = far_count > 0 ? 1.0f / (1.0f + expf(-odds)) : 0.0f;
    }
    return p_ < 1 ? 1.0f - (1.0f - p_) * (1.0f + expf(-odds)) : INFINITY;
  }
  __device__ static ScoreSum sum_over_warp(const ScoreSum& share) {
    float reference = share.reference;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      reference = fmaxf(reference, __shfl_xor_sync(0xffffffffu, reference, offset));
    }
    const float factor = share.sum > 0 ? exp2_approximate(share.reference - reference) : 0.0f;
    return {reference, lane_sum<32>(share.sum * factor)};
  }

  /// Reads the maxima of the tiles with far keys, a run of them to each warp, and returns the lowest and highest.
  __device__ uint2 read_maxima() {
    first_tile_ = params_.sink_tokens / kScoreTile;
    tile_count_ = (far_end_ + kScoreTile - 1) / kScoreTile - first_tile_;
    own_begin_ = static_cast<int32_t>(static_cast<int64_t>(tile_count_) * warp_ / kPickWarps);
    own_end_ = static_cast<int32_t>(static_cast<int64_t>(tile_count_) * (warp_ + 1) / kPickWarps);
    uint2 bounds = {UINT32_MAX, 0};
    constexpr int kAtOnce = 8;
    for (int32_t first = own_begin_ + lane_; first - lane_ < own_end_; first += 32 * kAtOnce) {
      uint32_t maxima[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        maxima[i] = first + 32 * i < own_end_ ? global_maximum(first + 32 * i) : 0;
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int32_t tile = first + 32 * i;
        if (tile < own_end_) {
          bounds.x = min(bounds.x, maxima[i]);
          bounds.y = max(bounds.y, maxima[i]);
          if (tile < 2 * kCandidates) {
            shared_.maxima[tile] = maxima[i];
          }
        }
      }
    }
    __syncwarp();
    return scan_.bounds(bounds);
  }
  __device__ uint32_t global_maximum(int32_t tile) const {
    return __ldcg(params_.tile_maxima + static_cast<int64_t>(row_) * params_.tiles + first_tile_ + tile);
  }
  /// visit(tile, maximum), 0 past the end, by whole warps in order. Tiles count from the first with a far key.
  template <class Visit>
  __device__ void for_each_tile(const Visit& visit) const {
#pragma unroll 2
    for (int32_t tile = own_begin_ + lane_; tile - lane_ < own_end_; tile += 32) {
      visit(tile, tile >= own_end_ ? 0 : tile < 2 * kCandidates ? shared_.maxima[tile] : global_maximum(tile));
    }
  }

  /// Lists the tiles that hold the `most` highest scores, in order, and sets threshold_ to what such a score has at
  /// least.
  __device__ void find_tiles(uint32_t most) {
    const uint2 bounds = read_maxima();
    highest_ = bounds.y;
    threshold_ = kNothing + 1;
    uint32_t ties = UINT32_MAX;  // tiles of exactly the threshold that count
    if (tile_count_ > static_cast<int32_t>(most)) {
      // Mostly one digit is exact enough.
      const RadixResult found = radix_select(
          shared_.histogram, shared_.result, scan_, {most, most, 0}, bounds.x, bounds.y,
          [&](const auto& visit) { for_each_tile([&](int32_t, uint32_t key) { visit(key, 0u); }); },
          [&](const RadixResult& result) { return result.equal <= 64; });
      threshold_ = found.low;
      if (found.count + found.equal > kTileCapacity) {
        ties = most - found.count;
      }
    }
    uint32_t ties_before = 0;
    if (ties != UINT32_MAX) {
      uint32_t own_ties = 0;
      for_each_tile([&](int32_t, uint32_t key) { own_ties += __popc(__ballot_sync(0xffffffffu, key == threshold_)); });
      ties_before = scan_.across_warps(own_ties).before;
    }
    // Whether the tile is taken, and if so, which of the taken ones it is.
    const auto is_taken = [&](uint32_t key, uint32_t& ties_seen) {
      if (ties == UINT32_MAX) {
        return key >= threshold_;
      }
      const uint32_t equal_lanes = __ballot_sync(0xffffffffu, key == threshold_);
      const uint32_t before = ties_seen + __popc(equal_lanes & lanes_below());
      ties_seen += __popc(equal_lanes);
      return key > threshold_ || (key == threshold_ && before < ties);
    };
    uint32_t own_taken = 0;
    uint32_t ties_seen = ties_before;
    for_each_tile(
        [&](int32_t, uint32_t key) { own_taken += __popc(__ballot_sync(0xffffffffu, is_taken(key, ties_seen))); });
    const BlockScan::Result slots = scan_.across_warps(own_taken);
    uint32_t slot = slots.before;
    ties_seen = ties_before;
    for_each_tile([&](int32_t tile, uint32_t key) {
      const bool taken = is_taken(key, ties_seen);
      const uint32_t lanes = __ballot_sync(0xffffffffu, taken);
      if (taken) {
        shared_.tiles[slot + __popc(lanes & lanes_below())] = first_tile_ + tile;
      }
      slot += __popc(lanes);
    });
    num_tiles_ = static_cast<int32_t>(slots.total);
    __syncthreads();
  }

  __device__ uint32_t lanes_below() const {
    return (1u << lane_) - 1;
  }

  /// Every block reads a run of the tiles; what reaches the threshold goes, in order, to the first block if it fits.
  __device__ void gather_candidates() {
    const auto blocks = static_cast<int32_t>(cluster_.num_blocks());
    const auto block = static_cast<int32_t>(cluster_.block_rank());
    const int32_t begin = num_tiles_ * block / blocks;
    const int32_t end = num_tiles_ * (block + 1) / blocks;
    const float* scores = params_.scores + static_cast<int64_t>(row_) * params_.tiles * kScoreTile + 2 * lane_;
    uint32_t own = 0;  // of the block
    for (int32_t first = begin; first < end; first += kTileBatch * kPickWarps) {
      const int32_t own_first = first + warp_ * kTileBatch;
      float2 pairs[kTileBatch];  // a lane has two neighbouring scores of each tile
#pragma unroll
      for (int i = 0; i < kTileBatch; ++i) {
        const bool exists = own_first + i < end;
        const auto* pair =
            reinterpret_cast<const float2*>(scores + (exists ? shared_.tiles[own_first + i] : 0) * kScoreTile);
        pairs[i] = exists ? __ldcg(pair) : make_float2(-INFINITY, -INFINITY);
      }
      uint32_t found = 0;  // of the warp
#pragma unroll
      for (int i = 0; i < kTileBatch; ++i) {
        found += __popc(__ballot_sync(0xffffffffu, order_key(pairs[i].x) >= threshold_)) +
                 __popc(__ballot_sync(0xffffffffu, order_key(pairs[i].y) >= threshold_));
      }
      const BlockScan::Result slots = scan_.across_warps(found);
      uint32_t slot = own + slots.before;
#pragma unroll
      for (int i = 0; i < kTileBatch; ++i) {
        const uint32_t keys[2] = {order_key(pairs[i].x), order_key(pairs[i].y)};
        const uint32_t lanes[2] = {__ballot_sync(0xffffffffu, keys[0] >= threshold_),
                                   __ballot_sync(0xffffffffu, keys[1] >= threshold_)};
        if ((lanes[0] | lanes[1]) != 0) {
          uint32_t own_slot = slot + __popc(lanes[0] & lanes_below()) + __popc(lanes[1] & lanes_below());
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            if (keys[e] >= threshold_ && own_slot < kCandidates) {
              shared_.candidate_keys[own_slot] = keys[e];
              shared_.candidate_positions[own_slot] = shared_.tiles[own_first + i] * kScoreTile + 2 * lane_ + e;
            }
            own_slot += keys[e] >= threshold_ ? 1 : 0;
          }
          slot += __popc(lanes[0]) + __popc(lanes[1]);
        }
      }
      own += slots.total;
    }
    if (static_cast<int32_t>(threadIdx.x) < blocks) {
      cluster_.map_shared_rank(shared_.peer_counts, threadIdx.x)[block] = own;
    }
    cluster_.sync();
    uint32_t before = 0;
    num_candidates_ = 0;
    for (int32_t peer = 0; peer < blocks; ++peer) {
      before += peer < block ? shared_.peer_counts[peer] : 0;
      num_candidates_ += shared_.peer_counts[peer];
    }
    if (block > 0 && num_candidates_ <= kCandidates) {
      uint32_t* candidate_keys = cluster_.map_shared_rank(shared_.candidate_keys, 0);
      int32_t* candidate_positions = cluster_.map_shared_rank(shared_.candidate_positions, 0);
      for (uint32_t i = threadIdx.x; i < own; i += kPickThreads) {
        candidate_keys[before + i] = shared_.candidate_keys[i];
        candidate_positions[before + i] = shared_.candidate_positions[i];
      }
    }
    cluster_.sync();
  }

  /// Candidates in rising order of positions, among them, where they did not fit, some that are none (key 0).
  __device__ int32_t candidate_count() const {
    return num_candidates_ <= kCandidates ? static_cast<int32_t>(num_candidates_) : num_tiles_ * kScoreTile;
  }
  __device__ uint32_t candidate(int32_t i, int32_t& position) const {
    if (num_candidates_ <= kCandidates) {
      position = shared_.candidate_positions[i];
      return shared_.candidate_keys[i];
    }
    position = shared_.tiles[i / kScoreTile] * kScoreTile + i % kScoreTile;
    const int64_t index = static_cast<int64_t>(row_) * params_.tiles * kScoreTile + position;
    const uint32_t key = order_key(__ldcg(params_.scores + index));
    return key >= threshold_ ? key : 0;
  }

  __device__ uint32_t weight_of(uint32_t key) const {
    const float exponent = from_order_key(key) * kLog2E - lse_far_log2_;
    return __float2uint_rn(fminf(exp2_approximate(exponent), 1.0f) * TakeRule::kUnit);
  }

  /// Writes the keys that the rule takes.
  __device__ void list(const TakeRule& rule) {
    if (!rule.takes(0, 0)) {
      if (threadIdx.x == 0) {
        params_.selected_counts[row_] = 0;
      }
      return;
    }
    const int32_t count = candidate_count();
    const RadixResult last = radix_select(
        shared_.histogram, shared_.result, scan_, rule, threshold_, highest_,
        [&](const auto& visit) {
          for (int32_t i = threadIdx.x; i < count; i += kPickThreads) {
            int32_t position = 0;
            const uint32_t key = candidate(i, position);
            if (key != 0) {
              visit(key, weight_of(key));
            }
          }
        },
        [](const RadixResult& result) { return result.equal == 1; });
    const uint32_t ties = rule.taken_ties(last.equal, last.equal_weight / max(1u, last.equal), last.count, last.weight);
    int32_t* out = params_.selected + static_cast<int64_t>(row_) * params_.max_selected;
    uint32_t above = 0;  // keys and ties in front of the round
    uint32_t equal = 0;
    for (int32_t base = 0; base < count; base += kPickThreads) {
      const int32_t i = base + static_cast<int32_t>(threadIdx.x);
      int32_t position = 0;
      const uint32_t key = i < count ? candidate(i, position) : 0;
      const bool is_equal = key >= last.low && key <= last.high;
      const uint32_t above_lanes = __ballot_sync(0xffffffffu, key > last.high);
      const uint32_t equal_lanes = __ballot_sync(0xffffffffu, is_equal);
      // Both counts of a round fit in 16 bits.
      const BlockScan::Result round = scan_.across_warps(__popc(above_lanes) << 16 | __popc(equal_lanes));
      const uint32_t above_before = above + (round.before >> 16) + __popc(above_lanes & lanes_below());
      const uint32_t equal_before = equal + (round.before & 0xffffu) + __popc(equal_lanes & lanes_below());
      if (key > last.high || (is_equal && equal_before < ties)) {
        const uint32_t slot = above_before + min(equal_before, ties);
        if (slot < rule.most) {  // scores that are not numbers may break the count, but nothing else
          out[slot] = position;
        }
      }
      above += round.total >> 16;
      equal += round.total & 0xffffu;
    }
    if (threadIdx.x == 0) {
      params_.selected_counts[row_] = static_cast<int32_t>(last.count + ties);
    }
  }

  const SelectionKernelParams& params_;
  PickSharedMemory& shared_;
  const cooperative_groups::cluster_group cluster_;
  BlockScan scan_;
  const int32_t row_, lane_, warp_;
  const int32_t rank_, token_, sequence_, head_;
  const float p_;
  const uint32_t least_, most_;
  float gate_ = 0, lse_local_ = 0;
  ScoreSum block_sum_ = {-INFINITY, 0};
  int32_t far_end_ = 0;
  float lse_far_log2_ = 0;
  int32_t first_tile_ = 0, tile_count_ = 0, own_begin_ = 0, own_end_ = 0;
  uint32_t threshold_ = 0, highest_ = 0;
  int32_t num_tiles_ = 0;
  uint32_t num_candidates_ = 0;
};

}  // namespace retrosparse::kernels::sm90
