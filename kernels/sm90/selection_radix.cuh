#pragma once
// Scans and radix selection of the second kernel of decode selection, by a whole block.
#include "sm90/selection_shared.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kPickThreads = 1024;
inline constexpr int kPickWarps = kPickThreads / 32;
static_assert(kPickWarps == 32, "a lane for each warp's total");
inline constexpr int kRadixDigits = 2048;
inline constexpr int kRadixPasses = 3;  ///< 11, 11 and 10 bits from the top

struct RadixPass {
  int shift;
  uint32_t digits;
};
__device__ inline RadixPass radix_pass(int pass) {
  return pass == 0 ? RadixPass{21, 2048} : pass == 1 ? RadixPass{10, 2048} : RadixPass{0, 1024};
}

/// Sums over the threads before this one and over all. Every scan of a kernel takes the next of two buffers, so that
/// one barrier each is enough.
class BlockScan {
 public:
  struct Shared {
    uint32_t totals[2][kPickWarps];
  };
  __device__ explicit BlockScan(Shared& shared) : shared_(shared), lane_(threadIdx.x % 32), warp_(threadIdx.x / 32) {}

  struct Result {
    uint32_t before, total;
  };
  __device__ Result operator()(uint32_t value) {
    uint32_t sum = value;
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const uint32_t other = __shfl_up_sync(0xffffffffu, sum, offset);
      sum += lane_ >= offset ? other : 0;
    }
    const Result warps = across_warps(__shfl_sync(0xffffffffu, sum, 31));
    return {warps.before + sum - value, warps.total};
  }

  /// Of values that a whole warp has in common: `before` counts the warps before this one.
  __device__ Result across_warps(uint32_t warp_total) {
    uint32_t(&totals)[kPickWarps] = shared_.totals[buffer_];
    buffer_ ^= 1;
    if (lane_ == 0) {
      totals[warp_] = warp_total;
    }
    __syncthreads();
    const uint32_t total = totals[lane_];
    return {__reduce_add_sync(0xffffffffu, lane_ < warp_ ? total : 0), __reduce_add_sync(0xffffffffu, total)};
  }

 private:
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

/// Zero before the selection starts.
struct RadixHistogram {
  uint32_t counts[kRadixPasses][kRadixDigits];
  uint32_t weights[kRadixPasses][kRadixDigits];
};

/// A value that the last of the taken elements shares the upper bits of.
struct RadixResult {
  uint32_t key;           ///< those bits, zeros below
  uint32_t count;         ///< elements above
  uint32_t weight;        ///< and their weight
  uint32_t equal;         ///< elements that share the bits
  uint32_t equal_weight;  ///< and their weight
};

/// Of the elements visited by for_each(visit), visit(key, weight), the last that the rule takes in falling order of
/// their keys; it must take one, but not all unless `most` are there. After `passes` of the kRadixPasses.
template <class ForEach>
__device__ RadixResult radix_select(RadixHistogram& histogram, RadixResult& shared_result, BlockScan& scan,
                                    const TakeRule& rule, int passes, const ForEach& for_each) {
  RadixResult result = {};
  uint32_t known = 0;  // mask of the bits of result.key that are settled
  for (int pass = 0; pass < passes; ++pass) {
    const auto [shift, digits] = radix_pass(pass);
    uint32_t(&counts)[kRadixDigits] = histogram.counts[pass];
    uint32_t(&weights)[kRadixDigits] = histogram.weights[pass];
    for_each([&](uint32_t key, uint32_t weight) {
      if ((key & known) == result.key) {
        atomicAdd(&counts[key >> shift & (digits - 1)], 1u);
        if (weight != 0) {
          atomicAdd(&weights[key >> shift & (digits - 1)], weight);
        }
      }
    });
    __syncthreads();
    // Thread i owns digits 2047 - 2 i and the one below: the scan runs from the top.
    const uint32_t high = kRadixDigits - 1 - 2 * threadIdx.x;
    const uint32_t count[2] = {counts[high], counts[high - 1]};
    const uint32_t weight[2] = {weights[high], weights[high - 1]};
    uint32_t count_above = result.count + scan(count[0] + count[1]).before;
    uint32_t weight_above = result.weight + scan(weight[0] + weight[1]).before;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const bool first_is_taken = count[i] > 0 && rule.takes(count_above, weight_above);
      if (first_is_taken && !rule.takes(count_above + count[i], weight_above + weight[i])) {
        shared_result = {result.key | (high - i) << shift, count_above, weight_above, count[i], weight[i]};
      }
      count_above += count[i];
      weight_above += weight[i];
    }
    __syncthreads();
    result = shared_result;
    known |= (digits - 1) << shift;
  }
  return result;
}

}  // namespace retrosparse::kernels::sm90
