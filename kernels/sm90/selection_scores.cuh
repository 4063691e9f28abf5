#pragma once
// First kernel of decode selection: one pass over the index keys. Writes every far key's score, the maximum of each
// 64-key tile, and per block the log-sum-exp of what it saw.
#include "sm90/selection_shared.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kScoreWarps = 8;
inline constexpr int kScoreThreads = 32 * kScoreWarps;

/// The scores of `kRows` rows (query tokens and heads of one index group) for all far keys, by the blocks of one
/// (row chunk and group, sequence). A warp takes two tiles at a time, with the next two on their way.
/// kReadOnce: the keys leave L2 first, so that the scores, which the candidates read again, stay there.
template <int kRows, bool kReadOnce>
class SelectionScores {
 public:
  __device__ explicit SelectionScores(const SelectionKernelParams& params)
      : params_(params), lane_(threadIdx.x % 32), warp_(threadIdx.x / 32), sequence_(blockIdx.z) {}

  /// `first_row` of the group's rows, token by token and head by head.
  __device__ void run(int32_t group, int32_t first_row) {
    group_ = group;
    const int32_t first_head = params_.first_of_group[group];
    const int32_t heads = params_.first_of_group[group + 1] - first_head;
    const int32_t rows = min(kRows, heads * params_.query_tokens - first_row);
    if (rows <= 0) {
      count();
      return;
    }
    __shared__ float queries[kRows][kIndexDim];
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const int32_t own = first_row + min(row, rows - 1);
      const int32_t token = own / heads;
      row_index_[row] =
          (sequence_ * params_.query_tokens + token) * params_.num_selected_heads + first_head + own % heads;
      far_end_[row] = params_.far_end(sequence_, token);
      if (threadIdx.x < kIndexDim) {
        queries[row][threadIdx.x] = params_.queries[static_cast<int64_t>(row_index_[row]) * kIndexDim + threadIdx.x];
      }
      sums_[row] = {-INFINITY, 0};
    }
    __syncthreads();
    key_count_ = params_.key_counts[sequence_];
    const int32_t first_tile = params_.sink_tokens / kScoreTile;
    const int32_t last_end = params_.far_end(sequence_, params_.query_tokens - 1);
    const int32_t end_tile = last_end > params_.sink_tokens ? (last_end + kScoreTile - 1) / kScoreTile : first_tile;

    const int32_t stride = 2 * gridDim.x * kScoreWarps;
    int32_t tile = first_tile + 2 * (blockIdx.x * kScoreWarps + warp_);
    uint4 ahead[4][2];
    load(tile, tile < end_tile, ahead);
    for (; tile < end_tile; tile += stride) {
      uint4 keys[4][2];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        keys[i][0] = ahead[i][0];
        keys[i][1] = ahead[i][1];
      }
      load(tile + stride, tile + stride < end_tile, ahead);
      score_tile(tile, keys[0], keys[1], rows, queries);
      if (tile + 1 < end_tile) {
        score_tile(tile + 1, keys[2], keys[3], rows, queries);
      }
    }
    store_sums(rows);
    count();
  }

 private:
  static constexpr float kLog2E = 1.44269504f;

  /// Key i of a lane is key `lane + 32 i` of the two tiles.
  __device__ void load(int32_t tile, bool exists, uint4 (&keys)[4][2]) const {
    if (!exists) {
      return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int32_t n = min(tile * kScoreTile + lane_ + 32 * i, key_count_ - 1);
      const IndexCache& cache = params_.cache;
      int64_t sequence = sequence_;
      int64_t token = n;
      if (cache.page_table != nullptr) {
        sequence = cache.page_table[sequence * cache.page_table_stride + (n >> (31 - __clz(cache.page_size)))];
        token = n & (cache.page_size - 1);
      }
      const auto* key =
          reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(cache.keys) + sequence * cache.sequence_stride +
                                         group_ * cache.group_stride + token * kIndexDim);
      keys[i][0] = read(key);
      keys[i][1] = read(key + 1);
    }
  }

  __device__ static uint4 read(const uint4* source) {
    if constexpr (kReadOnce) {
      return load_by_policy(source, evict_first_policy());
    } else {
      return __ldg(source);
    }
  }

  __device__ static void unpack(const uint4 (&key)[2], float (&values)[kIndexDim]) {
    const uint32_t words[8] = {key[0].x, key[0].y, key[0].z, key[0].w, key[1].x, key[1].y, key[1].z, key[1].w};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      values[2 * i] = __uint_as_float(words[i] << 16);
      values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
  }

  __device__ void score_tile(int32_t tile, const uint4 (&first)[2], const uint4 (&second)[2], int32_t rows,
                             const float (&queries)[kRows][kIndexDim]) {
    float a[kIndexDim], b[kIndexDim];
    unpack(first, a);
    unpack(second, b);
    const int32_t n = tile * kScoreTile + lane_;
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      if (row < rows) {
        float scores[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < kIndexDim; ++i) {  // in this order: the reference's scores, bit for bit
          scores[0] = __fmaf_rn(queries[row][i], a[i], scores[0]);
          scores[1] = __fmaf_rn(queries[row][i], b[i], scores[1]);
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int32_t key = n + 32 * i;
          scores[i] = key >= params_.sink_tokens && key < far_end_[row] ? scores[i] : -INFINITY;
        }
        float* out = params_.scores + static_cast<int64_t>(row_index_[row]) * params_.tiles * kScoreTile + n;
        out[0] = scores[0];
        out[32] = scores[1];
        add(sums_[row], scores, from_order_key(store_maxima(row, tile, scores)));
      }
    }
  }

  /// Returns the tile's.
  __device__ uint32_t store_maxima(int row, int32_t tile, const float (&scores)[2]) const {
    const int64_t first = static_cast<int64_t>(row_index_[row]) * params_.tiles + tile;
    if (params_.many_share) {
      const uint32_t maximum = __reduce_max_sync(0xffffffffu, order_key(fmaxf(scores[0], scores[1])));
      if (lane_ == 0) {
        params_.maxima[first] = maximum;
      }
      return maximum;
    }
    const uint2 halves = {__reduce_max_sync(0xffffffffu, order_key(scores[0])),
                          __reduce_max_sync(0xffffffffu, order_key(scores[1]))};
    if (lane_ == 0) {
      reinterpret_cast<uint2*>(params_.maxima)[first] = halves;
    }
    return max(halves.x, halves.y);
  }

  /// The warp's reference is the largest exponent so far; the sum is the lane's own.
  __device__ static void add(ScoreSum& sum, const float (&scores)[2], float maximum) {
    const float exponent = maximum * kLog2E;
    if (exponent > sum.reference) {
      sum.sum *= exp2_approximate(sum.reference - exponent);
      sum.reference = exponent;
    }
    if (maximum != -INFINITY) {
      sum.sum +=
          exp2_approximate(scores[0] * kLog2E - sum.reference) + exp2_approximate(scores[1] * kLog2E - sum.reference);
    }
  }

  __device__ void store_sums(int32_t rows) {
    __shared__ ScoreSum warp_sums[kScoreWarps][kRows];
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const float sum = lane_sum<32>(sums_[row].sum);
      if (lane_ == 0) {
        warp_sums[warp_][row] = {sums_[row].reference, sum};
      }
    }
    __syncthreads();
    if (threadIdx.x < kRows && static_cast<int32_t>(threadIdx.x) < rows) {
      ScoreSum total = {-INFINITY, 0};
      for (int warp = 0; warp < kScoreWarps; ++warp) {
        total.reference = fmaxf(total.reference, warp_sums[warp][threadIdx.x].reference);
      }
      for (int warp = 0; warp < kScoreWarps; ++warp) {
        const ScoreSum& share = warp_sums[warp][threadIdx.x];
        if (share.sum > 0) {
          total.sum += share.sum * exp2_approximate(share.reference - total.reference);
        }
      }
      params_.sums[static_cast<int64_t>(row_index(threadIdx.x)) * params_.blocks + blockIdx.x] = total;
    }
  }

  /// Tells the candidates that this block is done.
  __device__ void count() const {
    if (!params_.scores_are_counted) {
      return;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      count_released(params_.scored);
    }
  }

  /// row_index_ at a run-time index, without taking the array out of the registers.
  __device__ int32_t row_index(int32_t row) const {
    int32_t found = row_index_[0];
#pragma unroll
    for (int i = 1; i < kRows; ++i) {
      found = i == row ? row_index_[i] : found;
    }
    return found;
  }

  const SelectionKernelParams& params_;
  const int32_t lane_, warp_, sequence_;
  int32_t group_ = 0;
  int32_t key_count_ = 0;
  int32_t row_index_[kRows];
  int32_t far_end_[kRows];
  ScoreSum sums_[kRows];
};

}  // namespace retrosparse::kernels::sm90
