#pragma once
// First kernel of decode selection: one pass over the index keys. Writes every far key's score, the maximum of each
// 64-key tile, and per block the log-sum-exp of what it saw.
//
// The scores come from the tensor cores, with each query as the sum of three bf16 numbers, so that they differ from the
// reference's in their last bits; a bound of that difference goes along, and the second kernel takes the exact scores
// of the few keys that can matter.
#include "sm90/mma.cuh"
#include "sm90/selection_shared.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kScoreWarps = 4;
inline constexpr int kScoreThreads = 32 * kScoreWarps;
inline constexpr int kScoreRows = 8;  ///< rows that share a pass over the keys
/// Tiles of a warp that are on their way, and blocks of a multiprocessor: together 192 KB, which memory needs to be at
/// full speed. One block fits beside two of the attention's.
inline constexpr int kScoreBlocksPerMultiprocessor = 6;

struct ScoresSharedMemory {
  ScoreSum warp_sums[kScoreWarps][kScoreRows];
};

/// The scores of up to kScoreRows rows (query tokens and heads of one index group) for all far keys, by the blocks of
/// one (row chunk and group, sequence). Every warp takes tiles of its own. Of the products' operands, lane 4 g + t holds
/// row g and key g, and the dimensions 4 t to 4 t + 3 of both.
class SelectionScores {
 public:
  __device__ SelectionScores(const SelectionKernelParams& params, ScoresSharedMemory& shared)
      : params_(params),
        shared_(shared),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        sequence_(blockIdx.z) {}

  /// `first_row` of the group's rows, token by token and head by head.
  __device__ void run(int32_t group, int32_t first_row) {
    const int32_t first_head = params_.first_of_group[group];
    const int32_t heads = params_.first_of_group[group + 1] - first_head;
    const int32_t rows = min(kScoreRows, heads * params_.query_tokens - first_row);
    if (rows <= 0) {
      return;
    }
    group_ = group;
    key_count_ = params_.key_counts[sequence_];
    const int32_t last_end = params_.far_end(sequence_, params_.query_tokens - 1);
    const int32_t first_tile = params_.sink_tokens / kScoreTile;
    const int32_t end_tile = last_end > params_.sink_tokens ? (last_end + kScoreTile - 1) / kScoreTile : first_tile;
    const auto stride = static_cast<int32_t>(gridDim.x * kScoreWarps);
    has_row_ = lane_ / 4 < rows;
    const int32_t own = first_row + min(lane_ / 4, rows - 1);
    row_ = (sequence_ * params_.query_tokens + own / heads) * params_.num_selected_heads + first_head + own % heads;
    read_queries();
    far_end_ = params_.far_end(sequence_, own / heads);
    const int32_t first_end = params_.far_end(sequence_, first_row / heads);
    // The first round reads only. A tile's registers are free for the next one as soon as its products are on their way.
    const int32_t own_tile = first_tile + static_cast<int32_t>(blockIdx.x) * kScoreWarps + warp_;
    uint2 keys[kChunks] = {};
    float scores[kChunks][2] = {};
    for (int32_t next = own_tile; next - stride < end_tile; next += stride) {
      const int32_t tile = next - stride;
      if (tile >= own_tile) {
        multiply(keys, scores);
      }
      if (next < end_tile) {
        load(next, keys);
      }
      if (tile >= own_tile) {
        finish_tile(tile, scores, tile * kScoreTile < params_.sink_tokens || (tile + 1) * kScoreTile > first_end);
      }
    }
    store_sums();
  }

 private:
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLn2 = 0.69314718f;
  static constexpr int kKeyBytes = kIndexDim * 2;
  static constexpr int kChunks = kScoreTile / 8;  ///< of 8 keys, the width of a product
  /// Where no score has been seen: below every exponent, but not so far that differences become NaN.
  static constexpr float kNoReference = -3e38f;
  /// Error of a score, times sum |q_i| max |k_i|. Tensor cores cut what lies below 2^-22 of the largest addend; 24
  /// addends, most of them small parts of a query, and the reference's own 16 roundings stay below 2^-17.
  static constexpr float kRelativeError = 0x1p-16f;

  /// The lane's part of its row's query, in bf16 parts of falling size: of each pair of dimensions first those of rows
  /// 0 to 7 of the operand, then those of its rows 8 to 15, which are other parts of the same queries.
  __device__ void read_queries() {
    const float* query = params_.queries + static_cast<int64_t>(row_) * kIndexDim + lane_ % 4 * 4;
    magnitude_ = 0;
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      float2 rest = {query[i], query[i + 1]};
      magnitude_ += fabsf(rest.x) + fabsf(rest.y);
      high_[i] = split_off(rest);
      high_[i + 1] = split_off(rest);
      low_[i] = split_off(rest);
      low_[i + 1] = split_off(rest);  // nothing is left by now, but a zero that is known is made anew for every product
    }
    magnitude_ = lane_sum<4>(magnitude_);
  }
  /// `value` in bf16; what that leaves out stays in `value`.
  __device__ static uint32_t split_off(float2& value) {
    const __nv_bfloat162 part = __float22bfloat162_rn(value);
    value = {value.x - __low2float(part), value.y - __high2float(part)};
    return reinterpret_cast<const uint32_t&>(part);
  }

  /// The lane's part of key 8 i + lane_ / 4 of a tile in keys[i].
  __device__ void load(int32_t tile, uint2 (&keys)[kChunks]) const {
    const uint64_t policy = evict_first_policy();  // the scores, which are read again, shall stay in L2
    const int32_t first = tile * kScoreTile;
    const bool in_one_page = params_.cache.page_table == nullptr || params_.cache.page_size >= kScoreTile;
    if (in_one_page && first + kScoreTile <= key_count_) {
      const uint16_t* key = index_key(params_.cache, sequence_, group_, first) + 4 * lane_;
#pragma unroll
      for (int i = 0; i < kChunks; ++i) {
        keys[i] = load_by_policy(key + i * 8 * kIndexDim, policy);
      }
      return;
    }
    // Every lane finds two of the keys, for whoever holds a part of them.
    const uint16_t* found[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int32_t n = min(first + 32 * half + lane_, key_count_ - 1);
      found[half] = index_key(params_.cache, sequence_, group_, n);
    }
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const auto key = __shfl_sync(0xffffffffu, reinterpret_cast<uintptr_t>(found[i / 4]), i % 4 * 8 + lane_ / 4);
      keys[i] = load_by_policy(reinterpret_cast<const uint16_t*>(key) + lane_ % 4 * 4, policy);
    }
  }

  /// The scores of keys 8 i + 2 (lane % 4) + {0, 1} of a tile.
  __device__ void multiply(const uint2 (&keys)[kChunks], float (&scores)[kChunks][2]) {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      float c[4] = {0, 0, 0, 0};
      multiply_accumulate(c, low_, keys[i].x, keys[i].y);
      multiply_accumulate(c, high_, keys[i].x, keys[i].y);
      scores[i][0] = c[0] + c[2];
      scores[i][1] = c[1] + c[3];
      const auto parts = reinterpret_cast<const __nv_bfloat162(&)[2]>(keys[i]);
      largest_part_ = __hmax2(largest_part_, __hmax2(parts[0], parts[1]));
      smallest_part_ = __hmin2(smallest_part_, __hmin2(parts[0], parts[1]));
    }
  }

  __device__ void finish_tile(int32_t tile, float (&scores)[kChunks][2], bool has_other_than_far) {
    const int32_t first = tile * kScoreTile + lane_ % 4 * 2;
    if (has_other_than_far) {
#pragma unroll
      for (int i = 0; i < kChunks; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int32_t n = first + 8 * i + j;
          scores[i][j] = n >= params_.sink_tokens && n < far_end_ ? scores[i][j] : -INFINITY;
        }
      }
    }
    float maximum = -INFINITY;
#pragma unroll
    for (const float(&pair)[2] : scores) {
      maximum = fmaxf(maximum, fmaxf(pair[0], pair[1]));
    }
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
    if (has_row_) {
      float* out = params_.scores + static_cast<int64_t>(row_) * params_.tiles * kScoreTile + first;
#pragma unroll
      for (int i = 0; i < kChunks; ++i) {
        *reinterpret_cast<float2*>(out + 8 * i) = {scores[i][0], scores[i][1]};
      }
      if (lane_ % 4 == 0) {
        params_.tile_maxima[static_cast<int64_t>(row_) * params_.tiles + tile] = order_key(maximum);
      }
      add(scores, maximum);
    }
  }

  /// The reference is the largest exponent of the row so far; the sum is the lane's own.
  __device__ void add(const float (&scores)[kChunks][2], float maximum) {
    const float exponent = maximum * kLog2E;
    if (exponent > reference_) {
      sum_ *= exp2_approximate(reference_ - exponent);
      reference_ = exponent;
    }
    float sums[2] = {0, 0};
#pragma unroll
    for (const float(&pair)[2] : scores) {
      sums[0] += exp2_approximate(pair[0] * kLog2E - reference_);
      sums[1] += exp2_approximate(pair[1] * kLog2E - reference_);
    }
    sum_ += sums[0] + sums[1];
  }

  __device__ void store_sums() {
    const float sum = lane_sum<4>(sum_);
    const __nv_bfloat162 parts = __hmax2(largest_part_, __hneg2(smallest_part_));
    const float part = fmaxf(__low2float(parts), __high2float(parts));
    // Parts are not negative, so that their bits have their order.
    const float largest = __uint_as_float(__reduce_max_sync(0xffffffffu, __float_as_uint(part)));
    if (lane_ % 4 == 0) {
      shared_.warp_sums[warp_][lane_ / 4] = {reference_, sum, kRelativeError * magnitude_ * largest};
    }
    __syncthreads();
    if (warp_ == 0 && lane_ % 4 == 0 && has_row_) {
      ScoreSum total = {-INFINITY, 0, 0};
      for (int warp = 0; warp < kScoreWarps; ++warp) {
        const ScoreSum& share = shared_.warp_sums[warp][lane_ / 4];
        total.reference = fmaxf(total.reference, share.sum > 0 ? share.reference : -INFINITY);
        total.error = fmaxf(total.error, share.error);
      }
      for (int warp = 0; warp < kScoreWarps; ++warp) {
        const ScoreSum& share = shared_.warp_sums[warp][lane_ / 4];
        if (share.sum > 0) {
          total.sum += share.sum * exp2_approximate(share.reference - total.reference);
        }
      }
      params_.sums[static_cast<int64_t>(row_) * params_.blocks + blockIdx.x] = total;
    }
  }

  const SelectionKernelParams& params_;
  ScoresSharedMemory& shared_;
  const int32_t lane_, warp_, sequence_;
  int32_t group_ = 0;
  int32_t row_ = 0;  ///< the lane's, [batch, query_tokens, R]; the last one's where it has none
  bool has_row_ = false;
  int32_t far_end_ = 0;  ///< of the lane's row
  int32_t key_count_ = 0;
  uint32_t high_[4], low_[4];
  float magnitude_ = 0;  ///< sum of |q_i| of the lane's row
  __nv_bfloat162 largest_part_ = {}, smallest_part_ = {};  ///< of the keys
  float reference_ = kNoReference;
  float sum_ = 0;
};

}  // namespace retrosparse::kernels::sm90
