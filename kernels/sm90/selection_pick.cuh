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
  // Of the first block.
  uint32_t candidate_keys[kCandidates];
  int32_t candidate_positions[kCandidates];
  // Of every block.
  RadixHistogram key_histogram, tile_histogram;
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
        warp_(threadIdx.x / 32) {
    for (RadixHistogram* histogram : {&shared.key_histogram, &shared.tile_histogram}) {
      auto* words = reinterpret_cast<uint4*>(histogram);
      for (uint32_t i = threadIdx.x; i < sizeof(RadixHistogram) / sizeof(uint4); i += kPickThreads) {
        words[i] = make_uint4(0, 0, 0, 0);
      }
    }
    cluster_.sync();  // the other blocks run: their shared memory may be written
  }

  __device__ void run() {
    const int32_t rank = row_ % params_.num_selected_heads;
    const int32_t token = row_ / params_.num_selected_heads % params_.query_tokens;
    const int32_t sequence = row_ / (params_.query_tokens * params_.num_selected_heads);
    far_end_ = params_.far_end(sequence, token);
    const auto far_count = static_cast<uint32_t>(max(0, far_end_ - params_.sink_tokens));
    const float share = share_to_cover(rank, (sequence * params_.query_tokens + token) * params_.num_heads, far_count);
    TakeRule rule;
    rule.least = min(far_count, static_cast<uint32_t>(params_.min_tokens[rank]));
    rule.most = min(far_count, static_cast<uint32_t>(share > 0 ? params_.max_tokens[rank] : params_.min_tokens[rank]));
    rule.share = share > 1 ? UINT32_MAX : __float2uint_ru(fmaxf(share, 0) * TakeRule::kUnit);
    if (rule.most == 0) {
      if (is_first_block() && threadIdx.x == 0) {
        params_.selected_counts[row_] = 0;
      }
      return;
    }
    find_tiles(rule.most);
    gather_candidates();
    if (is_first_block()) {
      list(rule);
    }
  }

 private:
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLn2 = 0.69314718f;
  static constexpr uint32_t kNothing = 0x007fffffu;  // order_key(-inf)
  static constexpr int kTileBatch = 8;               // tiles that a warp reads together

  __device__ bool is_first_block() const { return cluster_.block_rank() == 0; }

  /// The share of the far keys' weight that the rule wants covered, from the log-sum-exp of the blocks of the first
  /// kernel.
  __device__ float share_to_cover(int32_t rank, int32_t first_lse, uint32_t far_count) {
    const float gate = params_.gates[row_] - params_.lse_local[first_lse + params_.heads[rank]];
    ScoreSum share = {-INFINITY, 0};
    if (threadIdx.x < params_.blocks && far_count > 0) {
      share = params_.sums[static_cast<int64_t>(row_) * params_.blocks + threadIdx.x];
    }
    share = sum_over_warp(share);
    if (lane_ == 0) {
      shared_.warp_shares[warp_] = share;
    }
    __syncthreads();
    share = sum_over_warp(shared_.warp_shares[lane_]);
    lse_far_log2_ = share.reference + log2f(share.sum);
    const float odds = lse_far_log2_ * kLn2 + gate;
    if (is_first_block() && threadIdx.x == 0 && params_.far_mass != nullptr) {
      params_.far_mass[row_] = far_count > 0 ? 1.0f / (1.0f + expf(-odds)) : 0.0f;
    }
    const float p = params_.p[rank];
    return p < 1 ? 1.0f - (1.0f - p) * (1.0f + expf(-odds)) : INFINITY;
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

  /// Lists the tiles that hold the `most` highest scores, in order, and sets threshold_ to what such a score has at
  /// least.
  __device__ void find_tiles(uint32_t most) {
    const int32_t first_tile = params_.sink_tokens / kScoreTile;
    const int32_t count = (far_end_ + kScoreTile - 1) / kScoreTile - first_tile;
    const uint32_t* maxima = params_.tile_maxima + static_cast<int64_t>(row_) * params_.tiles + first_tile;
    threshold_ = kNothing + 1;
    uint32_t ties = UINT32_MAX;  // tiles of exactly the threshold that count
    if (count > static_cast<int32_t>(most)) {
      const TakeRule rule = {most, most, 0};
      const auto for_each = [&](const auto& visit) {
        for (int32_t i = threadIdx.x; i < count; i += kPickThreads) {
          visit(__ldcg(maxima + i), 0u);
        }
      };
      // Two digits are exact enough unless very many tiles share them.
      RadixResult found = radix_select(shared_.tile_histogram, shared_.result, scan_, rule, 2, for_each);
      if (found.count + found.equal > kTileCapacity) {
        __syncthreads();
        clear(shared_.tile_histogram);
        found = radix_select(shared_.tile_histogram, shared_.result, scan_, rule, kRadixPasses, for_each);
        ties = most - found.count;
      }
      threshold_ = max(threshold_, found.key);
    }
    num_tiles_ = 0;
    uint32_t ties_before = 0;
    for (int32_t base = 0; base < count; base += kPickThreads) {
      const int32_t i = base + static_cast<int32_t>(threadIdx.x);
      const uint32_t key = i < count ? __ldcg(maxima + i) : 0;
      bool taken = key >= threshold_;
      if (ties != UINT32_MAX) {
        const BlockScan::Result equal = scan_(key == threshold_);
        taken = key > threshold_ || (key == threshold_ && ties_before + equal.before < ties);
        ties_before += equal.total;
      }
      const uint32_t lanes = __ballot_sync(0xffffffffu, taken);
      const BlockScan::Result slots = scan_.across_warps(__popc(lanes));
      if (taken) {
        shared_.tiles[num_tiles_ + slots.before + __popc(lanes & ((1u << lane_) - 1))] = first_tile + i;
      }
      num_tiles_ += slots.total;
    }
    __syncthreads();
  }

  __device__ static void clear(RadixHistogram& histogram) {
    auto* words = reinterpret_cast<uint32_t*>(&histogram);
    for (uint32_t i = threadIdx.x; i < sizeof(RadixHistogram) / sizeof(uint32_t); i += kPickThreads) {
      words[i] = 0;
    }
    __syncthreads();
  }

  /// The scores of kTileBatch listed tiles from `first` on, as order keys; 0 where there is none.
  __device__ void read_tiles(int32_t first, int32_t end, uint32_t (&keys)[2 * kTileBatch]) const {
    const float* scores = params_.scores + static_cast<int64_t>(row_) * params_.tiles * kScoreTile + lane_;
#pragma unroll
    for (int i = 0; i < 2 * kTileBatch; ++i) {
      const int32_t number = first + i / 2;
      keys[i] = number < end ? order_key(__ldcg(scores + shared_.tiles[number] * kScoreTile + i % 2 * 32)) : 0;
    }
  }

  /// Every block reads a run of the tiles, every warp a run of those; what reaches the threshold goes, in order, to the
  /// first block if it fits.
  __device__ void gather_candidates() {
    const auto blocks = static_cast<int32_t>(cluster_.num_blocks());
    const auto block = static_cast<int32_t>(cluster_.block_rank());
    const int32_t block_begin = num_tiles_ * block / blocks;
    const int32_t block_end = num_tiles_ * (block + 1) / blocks;
    const int32_t begin = block_begin + (block_end - block_begin) * warp_ / kPickWarps;
    const int32_t end = block_begin + (block_end - block_begin) * (warp_ + 1) / kPickWarps;
    uint32_t keys[2 * kTileBatch];
    uint32_t own = 0;  // of the warp
    for (int32_t first = begin; first < end; first += kTileBatch) {
      read_tiles(first, end, keys);
#pragma unroll
      for (int i = 0; i < 2 * kTileBatch; ++i) {
        own += __popc(__ballot_sync(0xffffffffu, keys[i] >= threshold_));
      }
    }
    const BlockScan::Result slots = scan_.across_warps(own);
    if (static_cast<int32_t>(threadIdx.x) < blocks) {
      cluster_.map_shared_rank(shared_.peer_counts, threadIdx.x)[block] = slots.total;
    }
    cluster_.sync();
    uint32_t slot = slots.before;
    num_candidates_ = 0;
    for (int32_t peer = 0; peer < blocks; ++peer) {
      slot += peer < block ? shared_.peer_counts[peer] : 0;
      num_candidates_ += shared_.peer_counts[peer];
    }
    if (num_candidates_ <= kCandidates) {
      uint32_t* candidate_keys = cluster_.map_shared_rank(shared_.candidate_keys, 0);
      int32_t* candidate_positions = cluster_.map_shared_rank(shared_.candidate_positions, 0);
      for (int32_t first = begin; first < end; first += kTileBatch) {
        if (end - begin > kTileBatch) {
          read_tiles(first, end, keys);
        }
#pragma unroll
        for (int i = 0; i < 2 * kTileBatch; ++i) {
          const uint32_t lanes = __ballot_sync(0xffffffffu, keys[i] >= threshold_);
          if (keys[i] >= threshold_) {
            const uint32_t own_slot = slot + __popc(lanes & ((1u << lane_) - 1));
            candidate_keys[own_slot] = keys[i];
            candidate_positions[own_slot] = shared_.tiles[first + i / 2] * kScoreTile + i % 2 * 32 + lane_;
          }
          slot += __popc(lanes);
        }
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
    const uint32_t key =
        order_key(__ldcg(params_.scores + static_cast<int64_t>(row_) * params_.tiles * kScoreTile + position));
    return key >= threshold_ ? key : 0;
  }

  __device__ uint32_t weight_of(uint32_t key) const {
    const float exponent = from_order_key(key) * kLog2E - lse_far_log2_;
    return __float2uint_rn(fminf(exp2_approximate(exponent), 1.0f) * TakeRule::kUnit);
  }

  /// Writes the keys that the rule takes.
  __device__ void list(const TakeRule& rule) {
    const int32_t count = candidate_count();
    const RadixResult last =
        radix_select(shared_.key_histogram, shared_.result, scan_, rule, kRadixPasses, [&](const auto& visit) {
          for (int32_t i = threadIdx.x; i < count; i += kPickThreads) {
            int32_t position = 0;
            const uint32_t key = candidate(i, position);
            if (key != 0) {
              visit(key, weight_of(key));
            }
          }
        });
    const uint32_t ties = rule.taken_ties(last.equal, weight_of(last.key), last.count, last.weight);
    int32_t* out = params_.selected + static_cast<int64_t>(row_) * params_.max_selected;
    uint32_t above = 0;  // keys and ties in front of the round
    uint32_t equal = 0;
    for (int32_t base = 0; base < count; base += kPickThreads) {
      const int32_t i = base + static_cast<int32_t>(threadIdx.x);
      int32_t position = 0;
      const uint32_t key = i < count ? candidate(i, position) : 0;
      const uint32_t above_lanes = __ballot_sync(0xffffffffu, key > last.key);
      const uint32_t equal_lanes = __ballot_sync(0xffffffffu, key == last.key);
      const uint32_t below = (1u << lane_) - 1;
      // Both counts of a round fit in 16 bits.
      const BlockScan::Result round = scan_.across_warps(__popc(above_lanes) << 16 | __popc(equal_lanes));
      const uint32_t above_before = above + (round.before >> 16) + __popc(above_lanes & below);
      const uint32_t equal_before = equal + (round.before & 0xffffu) + __popc(equal_lanes & below);
      if (key > last.key || (key == last.key && equal_before < ties)) {
        out[above_before + min(equal_before, ties)] = position;
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
  int32_t far_end_ = 0;
  float lse_far_log2_ = 0;
  uint32_t threshold_ = 0;
  int32_t num_tiles_ = 0;
  uint32_t num_candidates_ = 0;
};

}  // namespace retrosparse::kernels::sm90
