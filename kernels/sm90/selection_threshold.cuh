#pragma once
// The first blocks of decode selection: from a sample of a row's far keys, a score that somewhat more keys reach than
// the rule can take. Whoever scores keys lists those that reach it. That the guess was good is checked when the row is
// picked: too few or too many, and all its keys are scored again there.
#include "sm90/selection_radix.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kScoreThreads = 32 * kScoreWarps;

struct ThresholdSharedMemory {
  uint4 keys[kSamples][2];                  ///< half h of sample i lies at half h ^ i / 4 % 2
  uint32_t scores[kMostRounds * kSamples];  ///< as order_key
  RadixHistogram histogram;
  BlockScan<kScoreThreads>::Shared scan;
  RadixResult result;
};

/// Thresholds are words that are their own flags: 0 until they are there.
__device__ inline void publish_threshold(uint32_t* threshold, uint32_t key) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(threshold), "r"(key) : "memory");
}
/// 0 or, once it is there, the threshold.
__device__ inline uint32_t poll_threshold(const uint32_t* threshold) {
  uint32_t key;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(key) : "l"(threshold) : "memory");
  return key;
}

class SelectionThreshold {
 public:
  __device__ SelectionThreshold(const SelectionKernelParams& params, ThresholdSharedMemory& shared, int32_t row)
      : params_(params), shared_(shared), scan_(shared.scan), row_(params, row) {}

  __device__ void run() {
    row_.find_end(params_);
    const uint32_t far_count = row_.far_count(params_);
    const uint32_t most = min(far_count, row_.most);
    uint32_t threshold = kAboveAll;
    if (most > 0) {
      threshold = far_count <= kListAll ? kNoScore : find(static_cast<int32_t>(far_count), most);
    }
    if (threadIdx.x == 0) {
      publish_threshold(params_.thresholds + row_.index, threshold);
    }
  }

 private:
  static constexpr int kEach = kSamples / kScoreThreads;  // samples of a thread in a round

  __device__ uint32_t find(int32_t far_count, uint32_t most) {
    shared_.histogram.clear();
    float query[kIndexDim];
#pragma unroll
    for (int i = 0; i < kIndexDim; ++i) {
      query[i] = __ldg(params_.queries + static_cast<int64_t>(row_.index) * kIndexDim + i);
    }
    const int32_t rounds = sample_rounds(far_count);
    const int32_t count = rounds * kSamples;
    uint32_t own_highest = 0;
    const IndexKeys index(params_.cache, row_.sequence, row_.group(params_));
#pragma unroll 1
    for (int32_t first = threadIdx.x; first < count; first += kSamples) {
      uint4 samples[kEach][2];  // read together
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const int32_t key = sample_key(first + i * kScoreThreads, count, far_count);
        const uint4* halves = index.key(params_.sink_tokens + key);
        samples[i][0] = __ldg(halves);
        samples[i][1] = __ldg(halves + 1);
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        float values[kIndexDim];
        unpack_key(samples[i][0], samples[i][1], values);
        const uint32_t key = order_key(index_score(query, values));
        shared_.scores[first + i * kScoreThreads] = key;
        own_highest = max(own_highest, key);
      }
    }
    const uint32_t highest = max(kNoScore, scan_.maximum(own_highest));

    // Of the keys that the rule can take the sample holds `expected`, give or take a root of that.
    const auto samples = static_cast<float>(count);
    const float expected = static_cast<float>(most) * samples / static_cast<float>(far_count);
    const auto rank = static_cast<uint32_t>(fminf(expected + 4.5f * sqrtf(expected) + 4.0f, samples));
    const auto for_each = [&](const auto& visit) {
#pragma unroll 4
      for (int32_t own = threadIdx.x; own < count; own += kScoreThreads) {
        visit(shared_.scores[own], 0u);
      }
    };
    return radix_select(shared_.histogram, shared_.result, scan_, {rank, rank, 0}, {kNoScore, highest},
                        pivot(kNoScore, highest), for_each,
                        [&](const RadixResult& result) { return result.equal <= 1 + rank / 16; })
        .low;
  }

  const SelectionKernelParams& params_;
  ThresholdSharedMemory& shared_;
  BlockScan<kScoreThreads> scan_;
  SelectionRow row_;
};

}  // namespace retrosparse::kernels::sm90
