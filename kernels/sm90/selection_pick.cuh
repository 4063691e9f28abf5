#pragma once
// Last part of decode selection: a block (or every block of a cluster, all alike) takes what the rule wants of a row's
// candidates. It selects by count and weight, digit by digit, without sorting, and lists the keys in rising order of
// their positions.
#include "sm90/selection_index.cuh"
#include "sm90/selection_radix.cuh"

namespace retrosparse::kernels::sm90 {

struct PickSharedMemory {
  Candidate candidates[kCandidates];
  RadixHistogram histogram;
  BlockScan::Shared scan;
  ScoreSum warp_shares[kPickWarps];
  RadixResult result;
};

class SelectionPick {
 public:
  __device__ SelectionPick(const SelectionKernelParams& params, PickSharedMemory& shared, int32_t row)
      : params_(params),
        shared_(shared),
        scan_(shared.scan),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        row_(params, row) {
    shared.histogram.clear();
  }

  /// By the whole block, once the candidates are listed: starts to read them.
  __device__ void read() {
    gate_ = params_.gates[row_.index];
    if (static_cast<int32_t>(threadIdx.x) < params_.blocks) {
      const ScoreSum& source = params_.sums[static_cast<int64_t>(row_.index) * params_.blocks + threadIdx.x];
      block_sum_ = {__ldcg(&source.reference), __ldcg(&source.sum)};
    }
    row_.find_end(params_);
    most_ = min(row_.far_count(params_), row_.most);
    if (most_ > 0) {
      read_segments();
    }
  }

  /// By the whole block, before find() and without lse_local: counts the candidates' first digits.
  __device__ void prepare() {
    const uint32_t far_count = row_.far_count(params_);
    const ScoreSum sum = sum_over_block(far_count > 0 ? block_sum_ : ScoreSum{-INFINITY, 0});  // a barrier
    lse_far_log2_ = sum.reference + log2f(sum.sum);
    if (most_ > 0) {
      count_digits(shared_.histogram, {threshold_, highest_}, pivot(threshold_, highest_),
                   [this](const auto& visit) { for_each_candidate(visit); });
    }
  }

  /// After prepare(): visit(position) for candidates first, first + stride ..., if most of them are going to be taken.
  template <class Visit>
  __device__ void for_each_position(int32_t first, int32_t stride, const Visit& visit) const {
    if (fits_ && count_ <= 2 * static_cast<int32_t>(most_)) {
#pragma unroll 1
      for (int32_t i = first; i < count_; i += stride) {
        visit(shared_.candidates[i].position);
      }
    }
  }

  /// By the whole block, once lse_local is there: finds how many keys the rule takes and returns it. `writes`: leaves
  /// the count and the far mass where the caller wants them.
  __device__ int32_t find(bool writes) {
    const int64_t local = (static_cast<int64_t>(row_.sequence) * params_.query_tokens + row_.token) * params_.num_heads;
    const float lse_local = __ldcg(params_.lse_local + local + row_.head);
    const uint32_t far_count = row_.far_count(params_);
    const float odds = lse_far_log2_ * kLn2 + gate_ - lse_local;
    const float share = row_.p < 1 ? 1.0f - (1.0f - row_.p) * (1.0f + expf(-odds)) : INFINITY;
    const uint32_t units = share > 1 ? UINT32_MAX : __float2uint_ru(fmaxf(share, 0) * TakeRule::kUnit);
    const TakeRule rule = {most_, min(far_count, row_.least), units};
    if (rule.takes(0, 0)) {
      select(rule);
    }
    const auto taken = static_cast<int32_t>(last_.count + ties_);
    if (writes && threadIdx.x == 0) {
      params_.selected_counts[row_.index] = taken;
      if (params_.far_mass != nullptr) {
        params_.far_mass[row_.index] = far_count > 0 ? 1.0f / (1.0f + expf(-odds)) : 0.0f;
      }
    }
    return taken;
  }

  /// By the whole block, if find() said that there are some: take(slot, position) for every key, slots in order of
  /// positions.
  template <class Take>
  __device__ void list(const Take& take) {
    uint2 seen = {0, 0};  // in the rounds before: keys above the last run, keys in it
#pragma unroll 1
    for (int32_t base = 0; base < count_; base += kEach * kPickThreads) {
      const int32_t first = base + kEach * static_cast<int32_t>(threadIdx.x);
      Candidate found[kEach];
      read_candidates(first, found);
      uint2 own = {0, 0};
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        own.x += found[i].key > last_.high ? 1 : 0;
        own.y += found[i].key >= last_.low && found[i].key <= last_.high ? 1 : 0;
      }
      uint2 all = {0, 0};
      uint2 before = scan_.before(own, all);
      before.x += seen.x;
      before.y += seen.y;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const bool is_above = found[i].key > last_.high;
        const bool is_equal = found[i].key >= last_.low && !is_above;
        const uint32_t slot = before.x + min(before.y, ties_);
        // Scores that are not numbers may break the count, but nothing else.
        if ((is_above || (is_equal && before.y < ties_)) && slot < most_) {
          take(static_cast<int32_t>(slot), found[i].position);
        }
        before.x += is_above ? 1 : 0;
        before.y += is_equal ? 1 : 0;
      }
      seen.x += all.x;
      seen.y += all.y;
    }
  }

  __device__ const SelectionRow& row() const {
    return row_;
  }

 private:
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLn2 = 0.69314718f;

  /// Finds out how many candidates there are and copies them to shared memory, one segment after the other.
  __device__ void read_segments() {
    const int64_t first_segment = static_cast<int64_t>(row_.index) * params_.segments;
    const bool exists = lane_ < params_.segments;
    const CandidateSum own = exists ? load(params_.candidate_sums[first_segment + lane_]) : CandidateSum{};
    threshold_ = __shfl_sync(0xffffffffu, own.threshold, 0);
    highest_ = __shfl_sync(0xffffffffu, own.highest, 0);
    const uint32_t total = __reduce_add_sync(0xffffffffu, exists ? own.count : 0);
    fits_ = total <= kCandidates;
    if (!fits_) {
      count_ = row_.far_end - params_.sink_tokens;
      return;
    }
    count_ = static_cast<int32_t>(total);
    // A few warps to a segment.
    const int32_t warps = kPickWarps / params_.segments;
    const int32_t segment = warp_ / warps;
    const uint32_t before = __reduce_add_sync(0xffffffffu, exists && lane_ < segment ? own.count : 0);
    const uint32_t count = __shfl_sync(0xffffffffu, own.count, segment);
    const Candidate* candidates = params_.candidates + (first_segment + segment) * kCandidates;
#pragma unroll 4
    for (uint32_t i = warp_ % warps * 32 + lane_; i < count; i += warps * 32) {
      reinterpret_cast<uint2*>(shared_.candidates)[before + i] = __ldcg(reinterpret_cast<const uint2*>(candidates) + i);
    }
  }

  /// What other blocks of this launch may have written.
  __device__ static CandidateSum load(const CandidateSum& source) {
    return {__ldcg(&source.count), __ldcg(&source.threshold), __ldcg(&source.highest)};
  }

  __device__ ScoreSum sum_over_block(ScoreSum share) {
    share = sum_over_warp(share);
    if (lane_ == 0) {
      shared_.warp_shares[warp_] = share;
    }
    __syncthreads();
    return sum_over_warp(lane_ < kPickWarps ? shared_.warp_shares[lane_] : ScoreSum{-INFINITY, 0});
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

  static constexpr int kEach = 4;  // candidates of a thread, side by side
  /// Candidates [first, first + kEach), in rising order of positions: of what was listed, or, where that did not fit,
  /// of all far scores; of key 0 where there is none.
  __device__ void read_candidates(int32_t first, Candidate (&found)[kEach]) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (fits_) {
        found[i] = first + i < count_ ? shared_.candidates[first + i] : Candidate{0, 0};
      } else {
        const int32_t position = params_.sink_tokens + first + i;
        const uint32_t key = first + i < count_
                                 ? score_again(IndexKeys(params_.cache, row_.group, row_.sequence).key(position),
                                               params_.queries + static_cast<int64_t>(row_.index) * kIndexDim)
                                 : 0;
        found[i] = {key >= threshold_ ? key : 0, position};
      }
    }
  }

  /// Out of line, and without `this`: rare, and none of it should cost registers elsewhere.
  __device__ __noinline__ static uint32_t score_again(const uint16_t* key, const float* query) {
    float score = 0;
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      float values[8];
      unpack(reinterpret_cast<const uint4*>(key)[half], values);
      add_products(score, query + 8 * half, values);
    }
    return order_key(score);
  }

  __device__ uint32_t weight_of(uint32_t key) const {
    const float exponent = from_order_key(key) * kLog2E - lse_far_log2_;
    return __float2uint_rn(fminf(exp2_approximate(exponent), 1.0f) * TakeRule::kUnit);
  }

  /// visit(key, weight) for every candidate.
  template <class Visit>
  __device__ void for_each_candidate(const Visit& visit) const {
#pragma unroll 1
    for (int32_t first = kEach * threadIdx.x; first < count_; first += kEach * kPickThreads) {
      Candidate found[kEach];
      read_candidates(first, found);
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        if (found[i].key != 0) {
          visit(found[i].key, weight_of(found[i].key));
        }
      }
    }
  }

  __device__ void select(const TakeRule& rule) {
    last_ = radix_select(
        shared_.histogram, shared_.result, scan_, rule, {threshold_, highest_}, pivot(threshold_, highest_),
        [this](const auto& visit) { for_each_candidate(visit); },
        [](const RadixResult& result) { return result.equal == 1; }, true);
    ties_ = rule.taken_ties(last_.equal, last_.equal_weight / max(1u, last_.equal), last_.count, last_.weight);
  }

  const SelectionKernelParams& params_;
  PickSharedMemory& shared_;
  BlockScan scan_;
  const int32_t lane_, warp_;
  SelectionRow row_;
  float gate_ = 0;
  ScoreSum block_sum_ = {-INFINITY, 0};   ///< of block threadIdx.x of the scores
  bool fits_ = false;                     ///< the candidates lie in shared memory
  uint32_t threshold_ = 0, highest_ = 0;  ///< no candidate is below or above
  uint32_t most_ = 0;
  int32_t count_ = 0;  ///< candidates
  float lse_far_log2_ = 0;
  RadixResult last_ = {};  ///< the run that the last key taken lies in
  uint32_t ties_ = 0;      ///< how many of the run are taken
};

}  // namespace retrosparse::kernels::sm90
