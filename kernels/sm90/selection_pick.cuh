#pragma once
// Second launch of decode selection: a block takes what the rule wants of a row's candidates. It selects by count and
// weight, digit by digit, without sorting, and lists the keys in rising order of their positions.
#include "sm90/selection_radix.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kPickThreads = 512;
inline constexpr int kPickWarps = kPickThreads / 32;

struct PickSharedMemory {
  uint32_t keys[kCandidates];  ///< of the candidates, as order_key, in rising order of positions
  int32_t positions[kCandidates];
  uint32_t segment_begins[kMaxSegments];  ///< the first candidate of each
  RadixHistogram histogram;
  BlockScan<kPickThreads>::Shared scan;
  WeightSum warp_weights[kPickWarps];
  RadixResult result;
};

class SelectionPick {
 public:
  /// Touches nothing that earlier launches write.
  __device__ SelectionPick(const SelectionKernelParams& params, PickSharedMemory& shared, int32_t row)
      : params_(params),
        shared_(shared),
        scan_(shared.scan),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        row_(params, row) {
    shared.histogram.clear();
  }

  /// Starts to read what the first launch left.
  __device__ void load() {
    row_.find_end(params_);
    gate_ = params_.gates[row_.index];
    const int32_t segments = params_.plan.segments();
    const Segment* own = params_.segments + static_cast<int64_t>(row_.index) * segments;
#pragma unroll
    for (int i = 0; i < kOwnSegments; ++i) {
      const int32_t segment = kOwnSegments * static_cast<int32_t>(threadIdx.x) + i;
      segments_[i] = segment < segments ? own[segment] : Segment{};
    }
  }

  /// By the whole block: how many keys the rule takes, with the log-sum-exp of the row's sinks and window. `writes`:
  /// leaves the count and the far mass where the caller wants them, and the threshold as the next call wants it.
  __device__ int32_t find(float lse_local, bool writes) {
    const uint32_t far_count = row_.far_count(params_);
    const uint32_t most = min(far_count, row_.most);
    read_segments(far_count, most);
    const float odds = lse_far_log2_ * kLn2 + gate_ - lse_local;
    const float far_mass = far_count > 0 ? 1.0f / (1.0f + expf(-odds)) : 0.0f;
    const float share = row_.p < 1 ? 1.0f - (1.0f - row_.p) * (1.0f + expf(-odds)) : INFINITY;
    const uint32_t units = share > 1 ? UINT32_MAX : __float2uint_ru(fmaxf(share, 0) * TakeRule::kUnit);
    const TakeRule rule = {most, min(far_count, row_.least), units};
    if (rule.takes(0, 0)) {
      listed_ ? select<true>(rule) : select<false>(rule);
    }
    if (writes && threadIdx.x == 0) {
      params_.selected_counts[row_.index] = static_cast<int32_t>(last_.count + ties_);
      params_.thresholds[row_.index] = 0;
      if (params_.far_mass != nullptr) {
        params_.far_mass[row_.index] = far_mass;
      }
    }
    return static_cast<int32_t>(last_.count + ties_);
  }

  /// By the whole block, once find() said how many: take(slot, position) for every key, slots in order of positions.
  template <class Take>
  __device__ void list(const Take& take) {
    listed_ ? list_keys<true>(take) : list_keys<false>(take);
  }

  __device__ const SelectionRow& row() const {
    return row_;
  }

 private:
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLn2 = 0.69314718f;
  static constexpr int kOwnSegments = kMaxSegments / kPickThreads;

  /// The weight of all far keys, and the candidates, if they are what the rule can take and fit.
  __device__ void read_segments(uint32_t far_count, uint32_t most) {
    WeightSum weight = segments_[0].weight;
    uint2 own = {0, 0};
#pragma unroll
    for (int i = 0; i < kOwnSegments; ++i) {
      own.x += segments_[i].count;
      if (i > 0) {
        float nothing = 0;
        add(weight, nothing, segments_[i].weight, nothing);
      }
    }
    weight = sum_over_warp(weight);
    if (lane_ == 0) {
      shared_.warp_weights[warp_] = weight;
    }
    uint2 all = {0, 0};
    uint32_t begin = scan_.before(own, all).x;
#pragma unroll
    for (int i = 0; i < kOwnSegments; ++i) {
      shared_.segment_begins[kOwnSegments * threadIdx.x + i] = begin;
      begin += segments_[i].count;
    }
    weight = sum_over_warp(lane_ < kPickWarps ? shared_.warp_weights[lane_] : WeightSum{});
    lse_far_log2_ = weight.reference + log2f(weight.sum);
    // An upper bound of the scores: the reference is their largest exponent, but for rounding.
    constexpr uint32_t kRoundings = 16;
    highest_ = order_key(weight.reference * kLn2) + kRoundings;

    listed_ = all.x <= kCandidates && all.x >= most;
    count_ = static_cast<int32_t>(listed_ ? all.x : far_count);
    __syncthreads();
    if (listed_) {
      gather();
    }
  }

  __device__ void gather() {
    const int32_t segments = params_.plan.segments();
    const Candidate* candidates =
        params_.candidates + static_cast<int64_t>(row_.index) * segments * params_.plan.capacity;
    constexpr int kBatch = 4;
#pragma unroll 1
    for (int32_t first = threadIdx.x; first < count_; first += kBatch * kPickThreads) {
      int32_t segment[kBatch] = {};  // the last that begins at or before the candidate
      for (int32_t step = kMaxSegments / 2; step > 0; step /= 2) {
        if (step < segments) {
#pragma unroll
          for (int i = 0; i < kBatch; ++i) {
            const int32_t next = segment[i] + step;
            const uint32_t begin = next < segments ? shared_.segment_begins[next] : UINT32_MAX;
            segment[i] = begin <= static_cast<uint32_t>(first + i * kPickThreads) ? next : segment[i];
          }
        }
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int32_t index = first + i * kPickThreads;
        if (index < count_) {
          const auto in_segment = index - static_cast<int32_t>(shared_.segment_begins[segment[i]]);
          const Candidate candidate = candidates[static_cast<int64_t>(segment[i]) * params_.plan.capacity + in_segment];
          shared_.keys[index] = candidate.key;
          shared_.positions[index] = candidate.position;
        }
      }
    }
    __syncthreads();
  }

  /// Key `index` of the candidates, or of all far keys where they are not listed.
  template <bool kListed>
  __device__ uint32_t key_at(int32_t index) const {
    return kListed ? shared_.keys[index] : score_again(params_, row_.index, params_.sink_tokens + index);
  }
  /// Rarely called, and therefore nothing that the rest has in registers.
  __noinline__ __device__ static uint32_t score_again(const SelectionKernelParams& params, int32_t row_index,
                                                      int32_t position) {
    const SelectionRow row(params, row_index);
    const uint4* halves = IndexKeys(params.cache, row.sequence, row.group(params)).key(position);
    float query[kIndexDim];
#pragma unroll
    for (int i = 0; i < kIndexDim; ++i) {
      query[i] = __ldg(params.queries + static_cast<int64_t>(row_index) * kIndexDim + i);
    }
    float key[kIndexDim];
    unpack_key(__ldg(halves), __ldg(halves + 1), key);
    return order_key(index_score(query, key));
  }

  __device__ uint32_t weight_of(uint32_t key) const {
    const float exponent = from_order_key(key) * kLog2E - lse_far_log2_;
    return __float2uint_rn(fminf(exp2_approximate(exponent), 1.0f) * TakeRule::kUnit);
  }

  /// Finds the last key that the rule takes, and how many that are equal to it.
  template <bool kListed>
  __device__ void select(const TakeRule& rule) {
    const uint2 range = {kNoScore, highest_};
    last_ = radix_select(
        shared_.histogram, shared_.result, scan_, rule, range, pivot(range.x, range.y),
        [&](const auto& visit) {
#pragma unroll(kListed ? 4 : 1)
          for (int32_t i = threadIdx.x; i < count_; i += kPickThreads) {
            const uint32_t key = key_at<kListed>(i);
            visit(key, weight_of(key));
          }
        },
        [](const RadixResult& result) { return result.equal == 1; });
    ties_ = rule.taken_ties(last_.equal, last_.equal_weight / max(1u, last_.equal), last_.count, last_.weight);
  }

  /// visit(index, lanes with keys above the last run, lanes with keys in it) for candidates [begin, end) of this warp.
  template <bool kListed, class Visit>
  __device__ void for_each_of_warp(int32_t begin, int32_t end, const Visit& visit) const {
#pragma unroll 1
    for (int32_t first = begin; first < end; first += 32) {
      const int32_t index = first + lane_;
      const uint32_t key = index < end ? key_at<kListed>(index) : 0;
      visit(index, __ballot_sync(0xffffffffu, index < end && key > last_.high),
            __ballot_sync(0xffffffffu, index < end && key >= last_.low && key <= last_.high));
    }
  }

  template <bool kListed, class Take>
  __device__ void list_keys(const Take& take) {
    const int32_t run = (count_ + kPickThreads - 1) / kPickThreads * 32;
    const int32_t begin = min(count_, warp_ * run);
    const int32_t end = min(count_, begin + run);
    uint2 own = {0, 0};  // keys above the last run, keys in it
    for_each_of_warp<kListed>(begin, end, [&](int32_t, uint32_t above, uint32_t equal) {
      own.x += __popc(above);
      own.y += __popc(equal);
    });
    uint2 all = {0, 0};
    uint2 before = scan_.across_warps(own, all);
    for_each_of_warp<kListed>(begin, end, [&](int32_t index, uint32_t above, uint32_t equal) {
      const uint32_t below = (1u << lane_) - 1;
      const uint32_t own_ties = before.y + __popc(equal & below);
      const uint32_t slot = before.x + __popc(above & below) + min(own_ties, ties_);
      const bool is_taken = (above >> lane_ & 1u) != 0 || ((equal >> lane_ & 1u) != 0 && own_ties < ties_);
      // Scores that are not numbers may break the count, but nothing else.
      if (is_taken && slot < last_.count + ties_) {
        take(static_cast<int32_t>(slot), kListed ? shared_.positions[index] : params_.sink_tokens + index);
      }
      before.x += __popc(above);
      before.y += __popc(equal);
    });
  }

  const SelectionKernelParams& params_;
  PickSharedMemory& shared_;
  BlockScan<kPickThreads> scan_;
  const int32_t lane_, warp_;
  SelectionRow row_;
  float gate_ = 0;
  Segment segments_[kOwnSegments];
  float lse_far_log2_ = 0;
  uint32_t highest_ = 0;  ///< no key is above
  bool listed_ = false;
  int32_t count_ = 0;  ///< candidates, or far keys where those are not listed
  RadixResult last_ = {};
  uint32_t ties_ = 0;
};

}  // namespace retrosparse::kernels::sm90
