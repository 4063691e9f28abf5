#pragma once
// Scans and radix selection by a whole block, for the kernels of decode selection.
#include "sm90/selection_shared.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kPickThreads = 512;
inline constexpr int kPickWarps = kPickThreads / 32;
static_assert(kPickWarps <= 32, "a lane for each warp's value");
inline constexpr int kDigitBits = 10;
inline constexpr int kRadixDigits = 1 << kDigitBits;

/// Sums and maxima over the threads of a block. Every one of a kernel takes the next of two buffers, so that
/// one barrier each is enough.
class BlockScan {
 public:
  struct Shared {
    uint2 values[2][kPickWarps];
  };
  __device__ explicit BlockScan(Shared& shared) : shared_(shared), lane_(threadIdx.x % 32), warp_(threadIdx.x / 32) {}

  /// Sums of a pair of values over the threads before this one, and over all of them in `all`.
  __device__ uint2 before(const uint2& value, uint2& all) {
    uint2 sum = value;
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const uint2 other = {__shfl_up_sync(0xffffffffu, sum.x, offset), __shfl_up_sync(0xffffffffu, sum.y, offset)};
      sum.x += lane_ >= offset ? other.x : 0;
      sum.y += lane_ >= offset ? other.y : 0;
    }
    const uint2 total = exchange({__shfl_sync(0xffffffffu, sum.x, 31), __shfl_sync(0xffffffffu, sum.y, 31)});
    all = {__reduce_add_sync(0xffffffffu, lane_ < kPickWarps ? total.x : 0),
           __reduce_add_sync(0xffffffffu, lane_ < kPickWarps ? total.y : 0)};
    return {__reduce_add_sync(0xffffffffu, lane_ < warp_ ? total.x : 0) + sum.x - value.x,
            __reduce_add_sync(0xffffffffu, lane_ < warp_ ? total.y : 0) + sum.y - value.y};
  }

  /// Sums of what every warp has in common, over the warps before this one and over all.
  struct Result {
    uint32_t before, total;
  };
  __device__ Result across_warps(uint32_t warp_value) {
    const uint32_t value = exchange({warp_value, 0}).x;
    return {__reduce_add_sync(0xffffffffu, lane_ < warp_ ? value : 0),
            __reduce_add_sync(0xffffffffu, lane_ < kPickWarps ? value : 0)};
  }

  /// The largest value of all threads.
  __device__ uint32_t maximum(uint32_t value) {
    return __reduce_max_sync(0xffffffffu, exchange({__reduce_max_sync(0xffffffffu, value), 0}).x);
  }

 private:
  /// The value of warp `lane`, of some warp for lanes past the last.
  __device__ uint2 exchange(const uint2& warp_value) {
    uint2(&values)[kPickWarps] = shared_.values[buffer_];
    buffer_ ^= 1;
    if (lane_ == 0) {
      values[warp_] = warp_value;
    }
    __syncthreads();
    return values[lane_ % kPickWarps];
  }

  Shared& shared_;
  const int32_t lane_, warp_;
  int buffer_ = 0;
};

/// Which elements of a falling order are taken: element `count`, when those before it weigh `weight`, if
/// count < most and (count < least or weight < share). Weights are in units of 2^-31 of the whole.
struct TakeRule {
  uint32_t most, least, share;
  static constexpr float kUnit = 2147483648.0f;

  __device__ bool takes(uint32_t count, uint32_t weight) const {
    return count < most && (count < least || weight < share);
  }
  /// How many of `equal` elements of weight `each` are taken that come after `count` of weight `weight`.
  __device__ uint32_t taken_ties(uint32_t equal, uint32_t each, uint32_t count, uint32_t weight) const {
    const uint32_t uncovered = share > weight ? share - weight : 0;
    const uint32_t by_share = uncovered == 0 ? 0 : each == 0 ? equal : (uncovered - 1) / each + 1;
    const uint32_t by_least = least > count ? least - count : 0;
    return min(equal, min(most - count, max(by_share, by_least)));
  }
};

/// Counts and weights by digit; zero between passes.
struct RadixHistogram {
  uint32_t counts[kRadixDigits];
  uint32_t weights[kRadixDigits];

  /// By the whole block; a barrier has to follow.
  __device__ void clear() {
#pragma unroll
    for (uint32_t i = threadIdx.x; i < kRadixDigits; i += kPickThreads) {
      counts[i] = weights[i] = 0;
    }
  }
};

/// The run of keys [low, high] that the last of the taken elements lies in.
struct RadixResult {
  uint32_t low, high;
  uint32_t count;         ///< elements above
  uint32_t weight;        ///< and their weight
  uint32_t equal;         ///< elements in it
  uint32_t equal_weight;  ///< and their weight
};

/// Where most of the keys that matter are: within four powers of two of the highest.
__device__ inline uint32_t pivot(uint32_t lowest, uint32_t highest) {
  constexpr uint32_t kFourPowers = 1u << 25;
  return max(lowest, highest > kFourPowers ? highest - kFourPowers : 0);
}

/// Of elements with keys in [range.x, range.y], which for_each(visit) shows by visit(key, weight), the last that
/// the rule takes in falling order of their keys; it must take one, but not all unless `most` are there. Most of them
/// are expected from `pivot` on. Stops at a run of keys with good_enough(result), at the latest at a single key.
template <class ForEach, class GoodEnough>
__device__ RadixResult radix_select(RadixHistogram& histogram, RadixResult& shared_result, BlockScan& scan,
                                    const TakeRule& rule, const uint2& range, uint32_t pivot, const ForEach& for_each,
                                    const GoodEnough& good_enough) {
  RadixResult result = {range.x, range.y, 0, 0, 0, 0};
  while (true) {
    const int shift = max(0, 32 - __clz(result.high - pivot) - kDigitBits);
    if (threadIdx.x == 0) {
      shared_result = {result.low, result.low, 0, 0, 0, 0};  // unless something is found
    }
    for_each([&](uint32_t key, uint32_t weight) {
      if (key >= result.low && key <= result.high) {
        const uint32_t digit = key < pivot ? 0 : (key - pivot) >> shift;
        atomicAdd(&histogram.counts[digit], 1u);
        if (weight != 0) {
          atomicAdd(&histogram.weights[digit], weight);
        }
      }
    });
    __syncthreads();
    // Thread i owns the kEach digits from kRadixDigits - kEach (i + 1) on: the scan runs from the top.
    constexpr int kEach = kRadixDigits / kPickThreads;
    const uint32_t first = kRadixDigits - kEach * (threadIdx.x + 1);
    uint2 own[kEach];
    uint2 total = {0, 0};
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      own[i] = {histogram.counts[first + i], histogram.weights[first + i]};
      histogram.counts[first + i] = histogram.weights[first + i] = 0;
      total.x += own[i].x;
      total.y += own[i].y;
    }
    uint2 all = {0, 0};
    uint2 above = scan.before(total, all);
    above.x += result.count;
    above.y += result.weight;
#pragma unroll
    for (int i = kEach - 1; i >= 0; --i) {
      const bool first_is_taken = own[i].x > 0 && rule.takes(above.x, above.y);
      if (first_is_taken && !rule.takes(above.x + own[i].x, above.y + own[i].y)) {
        const uint32_t digit = first + i;
        const uint32_t run = pivot + (digit << shift);
        shared_result = {digit == 0 ? result.low : run,
                         min(result.high, run + ((1u << shift) - 1)),
                         above.x,
                         above.y,
                         own[i].x,
                         own[i].y};
      }
      above.x += own[i].x;
      above.y += own[i].y;
    }
    __syncthreads();
    result = shared_result;
    pivot = result.low;
    if (result.low == result.high || good_enough(result)) {
      return result;
    }
    __syncthreads();  // all have read the result
  }
}

}  // namespace retrosparse::kernels::sm90
