#pragma once
// Second kernel of decode selection: one block finds a row's highest scores without sorting all of them.
//
// With `wanted` the rule's cap (or all far keys), the `wanted` highest scores lie in the `wanted` tiles of the highest
// maxima (each of those holds a score at least as high as the lowest of these maxima; ties go by position on both
// levels). A radix selection finds these tiles, another the keys in them; only those are sorted, and the sums of their
// weights in falling order say how many of them the rule takes.
#include "sm90/selection_shared.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kPickThreads = 1024;
inline constexpr int kCandidates = 8192;  ///< scores that fit in shared memory; more are read again where they are

struct PickSharedMemory {
  uint32_t candidate_keys[kCandidates];
  int32_t candidate_positions[kCandidates];
  uint64_t chosen[kMaxSelectedTokens];  ///< order key above, ~position below: falling scores, rising positions
  int32_t tiles[kMaxSelectedTokens];
  uint32_t histogram[2048];
  uint32_t warp_counts[32];
  float warp_sums[32];
  ScoreSum warp_shares[32];
  uint32_t digit, above;  ///< of the radix selection
  int32_t num_tiles, num_candidates, num_chosen;
};

/// Sum of `value` over the threads before this one, and over all of them in `total`.
__device__ inline uint32_t exclusive_scan(uint32_t value, uint32_t (&warp_counts)[32], uint32_t& total) {
  const int32_t lane = threadIdx.x % 32;
  uint32_t sum = value;
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const uint32_t other = __shfl_up_sync(0xffffffffu, sum, offset);
    sum += lane >= offset ? other : 0;
  }
  if (lane == 31) {
    warp_counts[threadIdx.x / 32] = sum;
  }
  __syncthreads();
  uint32_t before = 0;
  total = 0;
#pragma unroll
  for (int warp = 0; warp < kPickThreads / 32; ++warp) {
    const uint32_t count = warp_counts[warp];
    before += warp < static_cast<int>(threadIdx.x / 32) ? count : 0;
    total += count;
  }
  __syncthreads();
  return before + sum - value;
}

/// The largest key such that at least `rank` of the `count` keys are as large; `ties` of those equal to it belong to
/// the `rank` largest, out of `equal`. `key(i, value)` gives key i, or false where there is none.
struct RadixResult {
  uint32_t key;
  uint32_t ties;
  uint32_t equal;
};
template <class Key>
__device__ RadixResult radix_select(PickSharedMemory& shared, int32_t count, uint32_t rank, const Key& key) {
  RadixResult result = {0, rank, 0};
  uint32_t known = 0;  // mask of the bits of result.key that are settled
  for (int shift = 21; shift >= -1; shift -= 11) {
    const int low = max(shift, 0);
    const uint32_t digits = shift < 0 ? 1024 : 2048;
    for (uint32_t i = threadIdx.x; i < 2048; i += kPickThreads) {
      shared.histogram[i] = 0;
    }
    __syncthreads();
    for (int32_t i = threadIdx.x; i < count; i += kPickThreads) {
      uint32_t value = 0;
      if (key(i, value) && (value & known) == result.key) {
        atomicAdd(&shared.histogram[value >> low & (digits - 1)], 1u);
      }
    }
    __syncthreads();
    // Thread i owns digits 2047 - 2 i and the one below: the scan runs from the top.
    const uint32_t high = 2047 - 2 * threadIdx.x;
    const uint32_t high_count = shared.histogram[high];
    const uint32_t low_count = shared.histogram[high - 1];
    uint32_t total = 0;
    const uint32_t above = exclusive_scan(high_count + low_count, shared.warp_counts, total);
    if (above < result.ties && above + high_count + low_count >= result.ties) {
      const bool in_high = above + high_count >= result.ties;
      shared.digit = in_high ? high : high - 1;
      shared.above = in_high ? above : above + high_count;
    }
    __syncthreads();
    result.key |= shared.digit << low;
    result.ties -= shared.above;
    result.equal = shared.histogram[shared.digit];
    known |= (digits - 1) << low;
    __syncthreads();
  }
  return result;
}

class SelectionPick {
 public:
  __device__ SelectionPick(const SelectionKernelParams& params, PickSharedMemory& shared)
      : params_(params), shared_(shared), row_(blockIdx.x), lane_(threadIdx.x % 32), warp_(threadIdx.x / 32) {
    const int32_t sequence = row_ / (params.query_tokens * params.num_selected_heads);
    token_ = row_ / params.num_selected_heads % params.query_tokens;
    rank_ = row_ % params.num_selected_heads;
    far_end_ = params.far_end(sequence, token_);
    sequence_ = sequence;
    scores_ = params.scores + static_cast<int64_t>(row_) * params.tiles * kScoreTile;
    maxima_ = params.tile_maxima + static_cast<int64_t>(row_) * params.tiles;
    // Read now, needed last.
    if (threadIdx.x < params.blocks) {
      block_sum_ = params.sums[static_cast<int64_t>(row_) * params.blocks + threadIdx.x];
    }
    const int64_t local = (static_cast<int64_t>(sequence_) * params.query_tokens + token_) * params.num_heads;
    gate_minus_local_ = params.gates[row_] - params.lse_local[local + params.heads[rank_]];
  }
  __device__ void run() {
    const int32_t far_count = far_end_ - params_.sink_tokens;
    const auto wanted = static_cast<uint32_t>(max(0, min(far_count, static_cast<int32_t>(params_.max_tokens[rank_]))));
    if (wanted == 0) {
      if (far_count > 0) {
        share_to_cover();
      }
      if (threadIdx.x == 0) {
        params_.selected_counts[row_] = 0;
        if (far_count <= 0 && params_.far_mass != nullptr) {
          params_.far_mass[row_] = 0;
        }
      }
      return;
    }
    find_candidates(wanted);
    choose(wanted);
    sort(wanted);
    cut(wanted, share_to_cover());
  }

 private:
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLn2 = 0.69314718f;
  static constexpr uint32_t kNothing = 0x007fffffu;  // order_key(-inf)
  /// log-sum-exp of the far scores from the blocks' shares, the far mass, and what share of it is to be covered.
  __device__ float share_to_cover() {
    float reference = block_sum_.reference;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      reference = fmaxf(reference, __shfl_xor_sync(0xffffffffu, reference, offset));
    }
    const float factor = block_sum_.sum > 0 ? exp2_approximate(block_sum_.reference - reference) : 0.0f;
    const float sum = lane_sum<32>(block_sum_.sum * factor);
    if (lane_ == 0) {
      shared_.warp_shares[warp_] = {reference, sum};
    }
    __syncthreads();
    float largest = shared_.warp_shares[lane_].reference;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
    }
    const ScoreSum share = shared_.warp_shares[lane_];
    const float total = lane_sum<32>(share.sum > 0 ? share.sum * exp2_approximate(share.reference - largest) : 0.0f);
    lse_far_ = (largest + log2f(total)) * kLn2;
    const float odds = lse_far_ + gate_minus_local_;
    if (threadIdx.x == 0 && params_.far_mass != nullptr) {
      params_.far_mass[row_] = 1.0f / (1.0f + expf(-odds));
    }
    const float p = params_.p[rank_];
    return p < 1 ? 1.0f - (1.0f - p) * (1.0f + expf(-odds)) : INFINITY;
  }
  /// Lists the tiles that hold the wanted scores, and copies what may be among those if it fits.
  __device__ void find_candidates(uint32_t wanted) {
    const int32_t first_tile = params_.sink_tokens / kScoreTile;
    const int32_t num_tiles = (far_end_ + kScoreTile - 1) / kScoreTile - first_tile;
    if (threadIdx.x == 0) {
      shared_.num_tiles = 0;
      shared_.num_candidates = 0;
      shared_.num_chosen = 0;
    }
    threshold_ = kNothing + 1;
    uint32_t ties_left = 0;
    bool take_all_ties = true;
    if (num_tiles > static_cast<int32_t>(wanted)) {
      const RadixResult found = radix_select(shared_, num_tiles, wanted, [&](int32_t i, uint32_t& key) {
        key = maxima_[first_tile + i];
        return true;
      });
      threshold_ = found.key;
      ties_left = found.ties;
      take_all_ties = found.ties == found.equal;
    }
    __syncthreads();
    for (int32_t base = 0; base < num_tiles; base += kPickThreads) {
      const int32_t tile = base + static_cast<int32_t>(threadIdx.x);
      const uint32_t key = tile < num_tiles ? maxima_[first_tile + tile] : 0;
      bool taken = key >= threshold_;
      if (!take_all_ties) {
        uint32_t ties = 0;
        const bool is_tie = key == threshold_;
        const uint32_t before = exclusive_scan(is_tie, shared_.warp_counts, ties);
        taken = key > threshold_ || (is_tie && before < ties_left);
        ties_left -= min(ties, ties_left);
      }
      if (taken) {
        shared_.tiles[atomicAdd(&shared_.num_tiles, 1)] = first_tile + tile;
      }
    }
    __syncthreads();
    for (int32_t first = warp_; first < shared_.num_tiles; first += kTileBatch * kPickThreads / 32) {
      collect(first);
    }
    __syncthreads();
  }
  static constexpr int kTileBatch = 8;

  /// What is high enough in kTileBatch tiles, read together, becomes candidates.
  __device__ void collect(int32_t first) {
    uint32_t keys[2 * kTileBatch];
    int32_t positions[2 * kTileBatch];
    uint32_t own = 0;
#pragma unroll
    for (int i = 0; i < 2 * kTileBatch; ++i) {
      const int32_t number = first + i / 2 * (kPickThreads / 32);
      const bool exists = number < shared_.num_tiles;
      positions[i] = exists ? shared_.tiles[number] * kScoreTile + i % 2 * 32 + lane_ : 0;
      keys[i] = exists ? order_key(__ldcg(scores_ + positions[i])) : 0;
    }
#pragma unroll
    for (int i = 0; i < 2 * kTileBatch; ++i) {
      own += keys[i] >= threshold_;
    }
    uint32_t slot = own;
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const uint32_t other = __shfl_up_sync(0xffffffffu, slot, offset);
      slot += lane_ >= offset ? other : 0;
    }
    uint32_t base = 0;
    if (lane_ == 31) {
      base = atomicAdd(&shared_.num_candidates, static_cast<int32_t>(slot));
    }
    slot += __shfl_sync(0xffffffffu, base, 31) - own;
#pragma unroll
    for (int i = 0; i < 2 * kTileBatch; ++i) {
      if (keys[i] >= threshold_) {
        if (slot < kCandidates) {
          shared_.candidate_keys[slot] = keys[i];
          shared_.candidate_positions[slot] = positions[i];
        }
        ++slot;
      }
    }
  }

  /// Calls visit(order key, position) for every candidate, thread by thread.
  template <class Visit>
  __device__ void for_each_candidate(const Visit& visit) const {
    for (int32_t i = threadIdx.x; i < candidate_count(); i += kPickThreads) {
      uint32_t key = 0;
      int32_t position = 0;
      if (candidate(i, key, position)) {
        visit(key, position);
      }
    }
  }
  __device__ int32_t candidate_count() const {
    return shared_.num_candidates <= kCandidates ? shared_.num_candidates : shared_.num_tiles * kScoreTile;
  }
  __device__ bool candidate(int32_t i, uint32_t& key, int32_t& position) const {
    if (shared_.num_candidates <= kCandidates) {
      key = shared_.candidate_keys[i];
      position = shared_.candidate_positions[i];
      return true;
    }
    position = shared_.tiles[i / kScoreTile] * kScoreTile + i % kScoreTile;
    key = order_key(scores_[position]);
    return key >= threshold_;
  }

  /// The `wanted` highest candidates, unsorted.
  __device__ void choose(uint32_t wanted) {
    const RadixResult scores = radix_select(shared_, candidate_count(), wanted, [&](int32_t i, uint32_t& key) {
      int32_t position = 0;
      return candidate(i, key, position);
    });
    uint32_t lowest_tie = 0;  // of ~position
    if (scores.ties < scores.equal) {
      const RadixResult positions =
          radix_select(shared_, candidate_count(), scores.ties, [&](int32_t i, uint32_t& key) {
            uint32_t score = 0;
            int32_t position = 0;
            const bool equal = candidate(i, score, position) && score == scores.key;
            key = ~static_cast<uint32_t>(position);
            return equal;
          });
      lowest_tie = positions.key;
    }
    for_each_candidate([&](uint32_t key, int32_t position) {
      const uint32_t tie = ~static_cast<uint32_t>(position);
      if (key > scores.key || (key == scores.key && tie >= lowest_tie)) {
        shared_.chosen[atomicAdd(&shared_.num_chosen, 1)] = static_cast<uint64_t>(key) << 32 | tie;
      }
    });
    __syncthreads();
  }

  /// Bitonic sort, falling, padded with zeros to a power of two.
  __device__ void sort(uint32_t wanted) {
    const uint32_t size = wanted <= 1 ? 1 : 1u << (32 - __clz(wanted - 1));
    for (uint32_t i = wanted + threadIdx.x; i < size; i += kPickThreads) {
      shared_.chosen[i] = 0;
    }
    __syncthreads();
    for (uint32_t run = 2; run <= size; run *= 2) {
      for (uint32_t distance = run / 2; distance > 0; distance /= 2) {
        for (uint32_t i = threadIdx.x; i < size / 2; i += kPickThreads) {
          const uint32_t low = 2 * i - (i & (distance - 1));
          const uint64_t a = shared_.chosen[low];
          const uint64_t b = shared_.chosen[low + distance];
          if ((a < b) == ((low & run) == 0)) {
            shared_.chosen[low] = b;
            shared_.chosen[low + distance] = a;
          }
        }
        // At distances up to 32 a warp's 32 pairs are 64 neighbours that no other warp touches.
        const uint32_t next_distance = distance > 1 ? distance / 2 : run;
        if (distance > 32 || next_distance > 32) {
          __syncthreads();
        } else {
          __syncwarp();
        }
      }
    }
    __syncthreads();
  }

  /// Writes as many of the sorted keys as the rule takes.
  __device__ void cut(uint32_t wanted, float share) {
    // Four consecutive ones a thread.
    constexpr int kEach = kMaxSelectedTokens / kPickThreads;
    float weights[kEach];
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const uint32_t index = threadIdx.x * kEach + i;
      weights[i] = 0;
      if (index < wanted) {
        const float score = from_order_key(static_cast<uint32_t>(shared_.chosen[index] >> 32));
        weights[i] = exp2_approximate((score - lse_far_) * kLog2E);
      }
      sum += weights[i];
    }
    float scan = sum;
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const float other = __shfl_up_sync(0xffffffffu, scan, offset);
      scan += lane_ >= offset ? other : 0.0f;
    }
    if (lane_ == 31) {
      shared_.warp_sums[warp_] = scan;
    }
    __syncthreads();
    float covered = scan - sum;
    for (int warp = 0; warp < warp_; ++warp) {
      covered += shared_.warp_sums[warp];
    }
    // A key is taken while those before it do not cover the share.
    uint32_t taken = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      taken += threadIdx.x * kEach + i < wanted && covered < share;
      covered += weights[i];
    }
    uint32_t total = 0;
    exclusive_scan(taken, shared_.warp_counts, total);
    const auto least = static_cast<uint32_t>(params_.min_tokens[rank_]);
    const uint32_t count = min(max(total, least), wanted);
    int32_t* out = params_.selected + static_cast<int64_t>(row_) * params_.max_selected;
    for (uint32_t i = threadIdx.x; i < count; i += kPickThreads) {
      out[i] = static_cast<int32_t>(~static_cast<uint32_t>(shared_.chosen[i]));
    }
    if (threadIdx.x == 0) {
      params_.selected_counts[row_] = static_cast<int32_t>(count);
    }
  }

  const SelectionKernelParams& params_;
  PickSharedMemory& shared_;
  const int32_t row_, lane_, warp_;
  int32_t sequence_, token_, rank_;
  int32_t far_end_;
  const float* scores_;
  const uint32_t* maxima_;
  uint32_t threshold_ = 0;
  ScoreSum block_sum_ = {-INFINITY, 0};
  float gate_minus_local_;
  float lse_far_ = 0;
};

}  // namespace retrosparse::kernels::sm90
