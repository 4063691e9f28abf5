#pragma once
// First kernel of decode selection: one pass over the index keys. Writes the maximum of each tile, the scores of rows
// that keep them, and per block the log-sum-exp of what it saw.
#include "sm90/mma.cuh"
#include "sm90/selection_index.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kScoreWarps = 8;
inline constexpr int kScoreThreads = 32 * kScoreWarps;
inline constexpr int kScoreStages = 3;
inline constexpr int kStepTiles = 2;  ///< that a warp scores at once
inline constexpr int kStepKeys = kStepTiles * kScoreTile;

/// Of kRows rows at once.
template <int kRows>
struct ScoreSharedMemory {
  uint4 keys[kScoreWarps][kScoreStages][2 * kStepKeys];  ///< every warp's ring; half h of key n at place(2 n + h)
  float queries[kRows][kIndexDim];
  ScoreSum sums[kScoreWarps][kRows];
  int32_t row_index[kRows];
  int32_t far_end[kRows];
  bool keeps_scores[kRows];
};

/// The scores of up to `kRows` rows (query tokens and heads of one index group) for all far keys, by the blocks of one
/// (row chunk and group, sequence). A warp takes two tiles at a time, with the next ones on their way to shared memory,
/// so that few registers are in use and other launches find room beside this one.
template <int kRows>
class SelectionScores {
 public:
  using Shared = ScoreSharedMemory<kRows>;

  __device__ SelectionScores(const SelectionKernelParams& params, Shared& shared)
      : params_(params),
        shared_(shared),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        sequence_(blockIdx.z),
        stride_(static_cast<int32_t>(gridDim.x) * kScoreWarps) {
#pragma unroll
    for (ScoreSum& sum : sums_) {
      sum = {-INFINITY, 0};
    }
  }

  /// `first_row` of the group's rows, token by token and head by head.
  __device__ void run(int32_t group, int32_t first_row) {
    const int32_t first_head = params_.first_of_group[group];
    const int32_t heads = params_.first_of_group[group + 1] - first_head;
    const int32_t rows = min(kRows, heads * params_.query_tokens - first_row);
    if (rows <= 0) {
      return;
    }
    const IndexKeys index(params_.cache, group, sequence_);
    // A contiguous cache may be read before it is known how many keys it holds.
    last_key_ = (index.paged() ? params_.key_counts[sequence_] : params_.max_keys) - 1;
    const int32_t first_step = params_.sink_tokens / kStepKeys;
    int32_t step = first_step + static_cast<int32_t>(blockIdx.x) * kScoreWarps + warp_;
#pragma unroll
    for (int i = 0; i < kScoreStages; ++i) {
      copy(index, step + i * stride_, i, (step + i * stride_) * kStepKeys <= last_key_);
    }

    for (int32_t i = threadIdx.x; i < rows * kIndexDim; i += kScoreThreads) {
      const int32_t own = first_row + i / kIndexDim;
      const int32_t token = own / heads;
      const int32_t rank = first_head + own % heads;
      const int32_t row = (sequence_ * params_.query_tokens + token) * params_.num_selected_heads + rank;
      shared_.queries[i / kIndexDim][i % kIndexDim] =
          params_.queries[static_cast<int64_t>(row) * kIndexDim + i % kIndexDim];
      if (i % kIndexDim == 0) {
        const int32_t far_end = params_.far_end(sequence_, token);
        const auto far_count = static_cast<uint32_t>(max(0, far_end - params_.sink_tokens));
        shared_.row_index[i / kIndexDim] = row;
        shared_.far_end[i / kIndexDim] = far_end;
        shared_.keeps_scores[i / kIndexDim] = keeps_scores(far_count, params_.max_tokens[rank]);
      }
    }
    const int32_t last_end = params_.far_end(sequence_, params_.query_tokens - 1);
    const int32_t end_step = last_end > params_.sink_tokens ? (last_end + kStepKeys - 1) / kStepKeys : first_step;
    __syncthreads();
    int32_t stage = 0;
#pragma unroll 1
    for (; step < end_step; step += stride_) {
      copy_async_wait<kScoreStages - 1>();
      __syncwarp();
      score_step(step, shared_.keys[warp_][stage], rows);
      __syncwarp();
      const int32_t next = step + kScoreStages * stride_;
      copy(index, next, stage, next < end_step);
      stage = stage + 1 == kScoreStages ? 0 : stage + 1;
    }
    copy_async_wait<0>();
    store_sums(rows);
  }

 private:
  static constexpr float kLog2E = 1.44269504f;

  /// Where 16-byte half `half` of a step's 2 x 64 lies, so that eight lanes that read the halves of neighbouring keys
  /// meet in no bank.
  __device__ static int32_t place(int32_t half) {
    return half ^ (half / 8 % 2);
  }

  /// Starts the copy of a step's keys to the warp's ring.
  __device__ void copy(const IndexKeys& index, int32_t step, int32_t stage, bool exists) {
    if (exists) {
#pragma unroll
      for (int i = 0; i < 2 * kStepKeys / 32; ++i) {
        const int32_t half = lane_ + 32 * i;
        const int32_t n = min(step * kStepKeys + half / 2, last_key_);
        copy_async(shared_address(&shared_.keys[warp_][stage][place(half)]), index.key(n) + half % 2 * 8, true);
      }
    }
    copy_async_commit();  // an empty group keeps the count
  }

  /// Every lane scores keys `lane` of both tiles.
  __device__ void score_step(int32_t step, const uint4 (&keys)[2 * kStepKeys], int32_t rows) {
    float scores[kRows][kStepTiles] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float values[kStepTiles][8];
#pragma unroll
      for (int i = 0; i < kStepTiles; ++i) {
        unpack(keys[place(2 * (lane_ + i * kScoreTile) + half)], values[i]);
      }
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        if (row < rows) {
#pragma unroll
          for (int i = 0; i < kStepTiles; ++i) {
            add_products(scores[row][i], &shared_.queries[row][8 * half], values[i]);
          }
        }
      }
    }
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      if (row < rows) {
        finish(step * kStepTiles, row, scores[row], sums_[row]);
      }
    }
  }

  __device__ void finish(int32_t tile, int32_t row, float (&scores)[kStepTiles], ScoreSum& sum) const {
    const int32_t far_end = shared_.far_end[row];
    const int64_t row_tile = static_cast<int64_t>(shared_.row_index[row]) * params_.tiles + tile;
    uint32_t maxima[kStepTiles];
#pragma unroll
    for (int i = 0; i < kStepTiles; ++i) {
      const int32_t key = (tile + i) * kScoreTile + lane_;
      scores[i] = key >= params_.sink_tokens && key < far_end ? scores[i] : -INFINITY;
      maxima[i] = __reduce_max_sync(0xffffffffu, order_key(scores[i]));
    }
    if (shared_.keeps_scores[row]) {
#pragma unroll
      for (int i = 0; i < kStepTiles; ++i) {
        params_.scores[(row_tile + i) * kScoreTile + lane_] = scores[i];
      }
    }
    if (lane_ == 0) {
      *reinterpret_cast<uint2*>(params_.tile_maxima + row_tile) = {maxima[0], maxima[1]};
    }
    add_scores(sum, scores, from_order_key(max(maxima[0], maxima[1])));
  }

  /// The warp's reference is the largest exponent so far; the sum is the lane's own.
  __device__ static void add_scores(ScoreSum& sum, const float (&scores)[kStepTiles], float maximum) {
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

  /// Adds up the warps' sums, and tells the rows' readers that this block is done.
  __device__ void store_sums(int32_t rows) {
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const float sum = lane_sum<32>(sums_[row].sum);
      if (lane_ == 0) {
        shared_.sums[warp_][row] = {sums_[row].reference, sum};
      }
    }
    __syncthreads();
    if (static_cast<int32_t>(threadIdx.x) < rows) {
      ScoreSum total = {-INFINITY, 0};
#pragma unroll 1
      for (int warp = 0; warp < kScoreWarps; ++warp) {
        total.reference = fmaxf(total.reference, shared_.sums[warp][threadIdx.x].reference);
      }
#pragma unroll 1
      for (int warp = 0; warp < kScoreWarps; ++warp) {
        const ScoreSum& share = shared_.sums[warp][threadIdx.x];
        if (share.sum > 0) {
          total.sum += share.sum * exp2_approximate(share.reference - total.reference);
        }
      }
      const int32_t row_index = shared_.row_index[threadIdx.x];
      params_.sums[static_cast<int64_t>(row_index) * params_.blocks + blockIdx.x] = total;
      add_released(params_.counters + row_index, 1);
    }
  }

  const SelectionKernelParams& params_;
  Shared& shared_;
  const int32_t lane_, warp_, sequence_, stride_;
  int32_t last_key_ = 0;
  ScoreSum sums_[kRows];
};

}  // namespace retrosparse::kernels::sm90
