#pragma once
// Third kernel of decode selection: a block takes what the rule wants of a row's candidates. It selects by count and
// weight, digit by digit, without sorting, and lists the keys in rising order of their positions.
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
  /// While the candidates are still gathered: touches nothing of theirs, but relies on the scores.
  __device__ SelectionPick(const SelectionKernelParams& params, PickSharedMemory& shared)
      : params_(params),
        shared_(shared),
        scan_(shared.scan),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        row_(params, static_cast<int32_t>(blockIdx.x)) {
    gate_ = params.gates[row_.index];
    ScoreSum own = {-INFINITY, 0};  // of block threadIdx.x of the first kernel
    if (threadIdx.x < params.blocks) {
      const float2 sum = __ldcg(reinterpret_cast<const float2*>(params.sums) +
                                static_cast<int64_t>(row_.index) * params.blocks + threadIdx.x);
      own = {sum.x, sum.y};
    }
    row_.find_end(params);
    far_count_ = row_.far_count(params);
    shared.histogram.clear();
    lse_far_log2_ = total_log2(own);
    if (!params.scores_are_counted) {
      find_units(lse_local());
    }
  }

  __device__ void run() {
    const float lse_late = params_.scores_are_counted ? lse_local() : 0;
    const Candidate* candidates = params_.candidates + static_cast<int64_t>(row_.index) * kCandidates;
    Candidate first[kFirst];  // read before their number is known
#pragma unroll
    for (int i = 0; i < kFirst; ++i) {
      first[i] = candidates[i * kPickThreads + threadIdx.x];
    }
    found_ = params_.candidate_sums[row_.index];
    if (blockIdx.x == 0 && threadIdx.x == 0) {
      *params_.scored = 0;  // for the next selection
    }
    const uint32_t most = min(far_count_, row_.most);
    count_ = most == 0 ? 0 : fits() ? static_cast<int32_t>(found_.count) : row_.far_end - first_position();
    if (most > 0 && fits()) {
#pragma unroll
      for (int i = 0; i < kFirst; ++i) {
        shared_.candidates[i * kPickThreads + threadIdx.x] = first[i];
      }
#pragma unroll 1
      for (int32_t i = kFirst * kPickThreads + threadIdx.x; i < count_; i += kPickThreads) {
        shared_.candidates[i] = candidates[i];
      }
    }
    if (params_.scores_are_counted) {
      find_units(lse_late);
    }
    list({most, min(far_count_, row_.least), units_});
  }

 private:
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLn2 = 0.69314718f;

  static constexpr int kFirst = 3;
  static_assert(kFirst * kPickThreads <= static_cast<int>(kCandidates));

  /// The log-sum-exp of what the blocks of the first kernel found, in powers of two.
  __device__ float total_log2(const ScoreSum& own) {
    const ScoreSum warp = sum_over_warp(far_count_ > 0 ? own : ScoreSum{-INFINITY, 0});
    if (lane_ == 0) {
      shared_.warp_shares[warp_] = warp;
    }
    __syncthreads();
    const ScoreSum all = sum_over_warp(lane_ < kPickWarps ? shared_.warp_shares[lane_] : ScoreSum{-INFINITY, 0});
    return all.reference + log2f(all.sum);
  }

  /// Left by the attention.
  __device__ float lse_local() const {
    const int64_t token = static_cast<int64_t>(row_.sequence) * params_.query_tokens + row_.token;
    return __ldcg(params_.lse_local + token * params_.num_heads + row_.head);
  }

  /// The share of the far keys' weight that the rule wants covered.
  __device__ void find_units(float lse_local) {
    const float odds = lse_far_log2_ * kLn2 + gate_ - lse_local;
    if (threadIdx.x == 0 && params_.far_mass != nullptr) {
      params_.far_mass[row_.index] = far_count_ > 0 ? 1.0f / (1.0f + expf(-odds)) : 0.0f;
    }
    const float share = row_.p < 1 ? 1.0f - (1.0f - row_.p) * (1.0f + expf(-odds)) : INFINITY;
    units_ = share > 1 ? UINT32_MAX : __float2uint_ru(fmaxf(share, 0) * TakeRule::kUnit);
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

  /// Candidates in rising order of positions: what was gathered, or, where that did not fit, all far scores.
  __device__ bool fits() const {
    return found_.count <= kCandidates;
  }
  __device__ int32_t first_position() const {
    return params_.sink_tokens / kScoreTile * kScoreTile;
  }
  static constexpr int kEach = 4;  // candidates of a thread, side by side
  /// Candidates [first, first + kEach); of key 0 where there is none.
  __device__ void read_candidates(int32_t first, Candidate (&found)[kEach]) const {
#pragma unroll
    for (int i = 0; i < kEach; i += 4) {
      if (fits()) {
#pragma unroll
        for (int j = i; j < i + 4; ++j) {
          found[j] = first + j < count_ ? shared_.candidates[first + j] : Candidate{0, 0};
        }
      } else {
        const int64_t index =
            static_cast<int64_t>(row_.index) * params_.tiles * kScoreTile + first_position() + first + i;
        const bool exists = first + i < count_;
        const float4 scores =
            exists ? __ldcg(reinterpret_cast<const float4*>(params_.scores + index)) : make_float4(0, 0, 0, 0);
        const float four[4] = {scores.x, scores.y, scores.z, scores.w};
#pragma unroll
        for (int j = i; j < i + 4; ++j) {
          const uint32_t key = order_key(four[j - i]);
          found[j] = {first + j < count_ && key >= found_.threshold ? key : 0, first_position() + first + j};
        }
      }
    }
  }

  __device__ uint32_t weight_of(uint32_t key) const {
    const float exponent = from_order_key(key) * kLog2E - lse_far_log2_;
    return __float2uint_rn(fminf(exp2_approximate(exponent), 1.0f) * TakeRule::kUnit);
  }

  /// Writes the keys that the rule takes.
  __device__ void list(const TakeRule& rule) {
    if (!rule.takes(0, 0)) {
      if (threadIdx.x == 0) {
        params_.selected_counts[row_.index] = 0;
      }
      return;
    }
    const RadixResult last = radix_select(
        shared_.histogram, shared_.result, scan_, rule, {found_.threshold, found_.highest},
        pivot(found_.threshold, found_.highest),
        [&](const auto& visit) {
          if (fits()) {  // in any order, and by as many threads as there are
#pragma unroll 1
            for (int32_t i = threadIdx.x; i < count_; i += kPickThreads) {
              const uint32_t key = shared_.candidates[i].key;
              visit(key, weight_of(key));
            }
            return;
          }
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
        },
        [](const RadixResult& result) { return result.equal == 1; });
    const uint32_t ties = rule.taken_ties(last.equal, last.equal_weight / max(1u, last.equal), last.count, last.weight);
    int32_t* out = params_.selected + static_cast<int64_t>(row_.index) * params_.max_selected;
    uint2 seen = {0, 0};  // in the rounds before: keys above the last run, keys in it
#pragma unroll 1
    for (int32_t base = 0; base < count_; base += kEach * kPickThreads) {
      const int32_t first = base + kEach * static_cast<int32_t>(threadIdx.x);
      Candidate found[kEach];
      read_candidates(first, found);
      uint2 own = {0, 0};
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        own.x += found[i].key > last.high ? 1 : 0;
        own.y += found[i].key >= last.low && found[i].key <= last.high ? 1 : 0;
      }
      uint2 all = {0, 0};
      uint2 before = scan_.before(own, all);
      before.x += seen.x;
      before.y += seen.y;
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const bool is_above = found[i].key > last.high;
        const bool is_equal = found[i].key >= last.low && !is_above;
        const uint32_t slot = before.x + min(before.y, ties);
        // Scores that are not numbers may break the count, but nothing else.
        if ((is_above || (is_equal && before.y < ties)) && slot < rule.most) {
          out[slot] = found[i].position;
        }
        before.x += is_above ? 1 : 0;
        before.y += is_equal ? 1 : 0;
      }
      seen.x += all.x;
      seen.y += all.y;
    }
    if (threadIdx.x == 0) {
      params_.selected_counts[row_.index] = static_cast<int32_t>(last.count + ties);
    }
  }

  const SelectionKernelParams& params_;
  PickSharedMemory& shared_;
  BlockScan scan_;
  const int32_t lane_, warp_;
  SelectionRow row_;
  float gate_ = 0;
  uint32_t units_ = 0;  ///< of weight that the rule wants covered
  uint32_t far_count_ = 0;
  CandidateSum found_ = {};
  int32_t count_ = 0;
  float lse_far_log2_ = 0;
};

}  // namespace retrosparse::kernels::sm90
