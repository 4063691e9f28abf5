#pragma once
// A score that at least `most` keys of a row reach, and not many more: the `most`-th highest of the maxima of disjoint
// groups of keys.
#include "sm90/selection_radix.cuh"

namespace retrosparse::kernels::sm90 {

struct ThresholdSharedMemory {
  RadixHistogram histogram;
  RadixResult result;
};

class SelectionThreshold {
 public:
  __device__ SelectionThreshold(const SelectionKernelParams& params, const SelectionRow& row,
                                ThresholdSharedMemory& shared, BlockScan& scan)
      : params_(params), row_(row), shared_(shared), scan_(scan) {}

  /// No key below `threshold` can be among the `most` highest, and none is above `highest`.
  struct Result {
    uint32_t threshold, highest;
  };

  /// By the whole block, once the scores are there; of the tiles [first_tile, end_tile). The histogram is clear.
  __device__ Result find(int32_t first_tile, int32_t end_tile, uint32_t most) {
    float largest_exponent = -INFINITY;
    if (static_cast<int32_t>(threadIdx.x) < params_.blocks) {
      largest_exponent =
          __ldcg(&params_.sums[static_cast<int64_t>(row_.index) * params_.blocks + threadIdx.x].reference);
    }
    uint32_t groups[kGroups];
    const int32_t count = read_groups(first_tile, end_tile, most, groups);
    // An upper bound for the scores: the references are their largest exponents, but for rounding.
    constexpr uint32_t kRoundings = 16;
    constexpr float kLn2 = 0.69314718f;
    const uint32_t highest = scan_.maximum(order_key(largest_exponent * kLn2)) + kRoundings;
    constexpr uint32_t kLowest = kNoScore + 1;
    if (count <= static_cast<int32_t>(most)) {
      return {kLowest, highest};
    }
    const auto for_each = [&](const auto& visit) {
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        if (i * kPickThreads < count) {
          visit(groups[i], 0u);
        }
      }
    };
    const auto good_enough = [](const RadixResult& result) { return result.equal <= kSpareGroups; };
    const RadixResult result = radix_select(shared_.histogram, shared_.result, scan_, {most, most, 0},
                                            {kLowest, highest}, pivot(kLowest, highest), for_each, good_enough);
    return {result.low, highest};
  }

 private:
  static constexpr int kGroups = 16;            // of keys, to a thread
  static constexpr uint32_t kSpareGroups = 64;  // whose best keys may be candidates in vain

  /// Maxima of disjoint groups of keys: as many groups as a block holds in registers, of tiles, or of fewer keys where
  /// the tiles are hardly more than `most`. Returns the number of groups.
  __device__ int32_t read_groups(int32_t first_tile, int32_t end_tile, uint32_t most,
                                 uint32_t (&groups)[kGroups]) const {
    const auto thread = static_cast<int32_t>(threadIdx.x);
    const auto enough = static_cast<int32_t>(most + most / 4);
    const int32_t tiles = end_tile - first_tile;
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      groups[i] = 0;
    }
    if (tiles < enough && tiles * (kScoreTile / 16) <= kGroups * kPickThreads) {
      const int32_t size = tiles * (kScoreTile / 16) < enough ? 4 : 16;
      const int32_t count = min(tiles * (kScoreTile / size), kGroups * kPickThreads);
      const int64_t first_score = (static_cast<int64_t>(row_.index) * params_.tiles + first_tile) * kScoreTile;
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        const int32_t group = i * kPickThreads + thread;
        for (int32_t j = 0; j < size && group < count; j += 4) {
          const auto* scores = reinterpret_cast<const float4*>(params_.scores + first_score + group * size + j);
          const float4 four = __ldcg(scores);
          groups[i] = max(groups[i], order_key(fmaxf(fmaxf(four.x, four.y), fmaxf(four.z, four.w))));
        }
      }
      return count;
    }
    const uint32_t* maxima = params_.tile_maxima + static_cast<int64_t>(row_.index) * params_.tiles;
    const int32_t quads = end_tile / 4 - (first_tile + 3) / 4;
    if (quads >= 2 * static_cast<int32_t>(most)) {
      // Four tiles at a read; few groups, as long as they give few candidates.
      constexpr int kFewGroups = kGroups / 2;
      const auto* first = reinterpret_cast<const uint4*>(maxima) + (first_tile + 3) / 4;
      int32_t size = 1;
      while (quads > size * kFewGroups * kPickThreads && quads >= 2 * size * static_cast<int32_t>(most)) {
        size *= 2;
      }
      const int32_t count = min(quads / size, kFewGroups * kPickThreads);
      for (int32_t other = 0; other < size; ++other) {
#pragma unroll
        for (int i = 0; i < kFewGroups; ++i) {
          const int32_t group = i * kPickThreads + thread;
          const uint4 quad = group < count ? __ldcg(first + other * count + group) : make_uint4(0, 0, 0, 0);
          groups[i] = max(groups[i], max(max(quad.x, quad.y), max(quad.z, quad.w)));
        }
      }
      return count;
    }
    int32_t size = 1;
    while (tiles > size * kGroups * kPickThreads) {
      size *= 2;
    }
    for (int32_t other = 0; other < size; ++other) {
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        const int32_t tile = (i * kPickThreads + thread) * size + other;
        groups[i] = max(groups[i], tile < tiles ? __ldcg(maxima + first_tile + tile) : 0);
      }
    }
    return (tiles + size - 1) / size;
  }

  const SelectionKernelParams& params_;
  const SelectionRow& row_;
  ThresholdSharedMemory& shared_;
  BlockScan& scan_;
};

}  // namespace retrosparse::kernels::sm90
