#pragma once
// First kernel of decode selection: one pass over the index keys. Writes the maximum of each tile, the scores of rows
// that keep them, and per block the log-sum-exp of what it saw.
#include "sm90/selection_index.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kScoreWarps = 8;
inline constexpr int kScoreThreads = 32 * kScoreWarps;
inline constexpr int kStepTiles = 2;  ///< that a warp scores at once
inline constexpr int kStepKeys = kStepTiles * kScoreTile;

/// Of kRows rows at once.
template <int kRows>
struct ScoreSharedMemory {
  alignas(16) float queries[kRows][kIndexDim];
  ScoreSum sums[kScoreWarps][kRows];
  int32_t row_index[kRows];
  uint32_t far_count[kRows];
  bool keeps_scores[kRows];
};

/// Index keys on their way to a lane: of tile t it reads one half of key lane / 2 and the other half of the key 16
/// further on, so that every access of a warp covers whole lines; neighbouring lanes exchange halves later.
struct IndexStep {
  uint4 near[kStepTiles], far[kStepTiles];
};

/// The scores of up to `kRows` rows (query tokens and heads of one index group) for all far keys, by the blocks of one
/// (row chunk and group, sequence). A warp takes two tiles at a time and has up to four such steps on their way in
/// registers: 64 KB to a block of eight warps, enough for a multiprocessor, so that one block to each leaves room for
/// the other launches.
template <int kRows, bool kPaged>
class SelectionScores {
 public:
  using Shared = ScoreSharedMemory<kRows>;

  __device__ SelectionScores(const SelectionKernelParams& params, Shared& shared)
      : params_(params),
        shared_(shared),
        lane_(threadIdx.x % 32),
        warp_(__shfl_sync(0xffffffffu, static_cast<int32_t>(threadIdx.x) / 32, 0)),
        position_(kept(lane_ % 2 * (kScoreTile / 2) + lane_ / 2)),
        sequence_(blockIdx.z),
        policy_(evict_first_policy()),
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
    const int32_t first = lane_ / 2;  // the lane's first key of a step
    const int32_t half = lane_ % 2 * 8;
    near_ = kept(index.contiguous_key(first) + half);
    far_ = kept(index.contiguous_key(first + kScoreTile / 2) + (8 - half));
    // A contiguous cache may be read before it is known how many keys it holds.
    const int32_t last_key = (kPaged ? params_.key_counts[sequence_] : params_.max_keys) - 1;
    last_start_ = kept(last_key - first);
    const int32_t first_step = params_.sink_tokens / kStepKeys;
    int32_t step = first_step + static_cast<int32_t>(blockIdx.x) * kScoreWarps + warp_;
    IndexStep ahead[kStages];
#pragma unroll
    for (int i = 0; i < kStages; ++i) {
      load(index, step + i * stride_, (step + i * stride_) * kStepKeys <= last_key, ahead[i]);
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
        shared_.far_count[i / kIndexDim] = far_count;
        shared_.keeps_scores[i / kIndexDim] = keeps_scores(far_count, params_.max_tokens[rank]);
      }
    }
    const int32_t last_end = params_.far_end(sequence_, params_.query_tokens - 1);
    const int32_t end_step = last_end > params_.sink_tokens ? (last_end + kStepKeys - 1) / kStepKeys : first_step;
    __syncthreads();
#pragma unroll 1
    for (; step < end_step; step += kStages * stride_) {
#pragma unroll
      for (int i = 0; i < kStages; ++i) {
        const int32_t own = step + i * stride_;
        if (own < end_step) {
          uint4 low[kStepTiles], high[kStepTiles];
          exchange(ahead[i], low, high);
          const int32_t next = own + kStages * stride_;
          load(index, next, next < end_step, ahead[i]);
          score_step(own, low, high, rows);
        }
      }
    }
    store_sums(rows);
  }

 private:
  static constexpr float kLog2E = 1.44269504f;

  /// Steps on their way: what fits beside the rows' sums in 128 registers.
  static constexpr int kStages = kRows <= 2 ? 4 : kRows == 4 ? 3 : 2;

  /// Leaves alone what lies past the last key.
  __device__ void load(const IndexKeys& index, int32_t step, bool exists, IndexStep& keys) const {
    if (!exists) {
      return;
    }
    const uint16_t* near = near_ + static_cast<int64_t>(step) * (kStepKeys * kIndexDim);
    const uint16_t* far = far_ + static_cast<int64_t>(step) * (kStepKeys * kIndexDim);
    const int32_t left = last_start_ - step * kStepKeys;
    const int32_t n = step * kStepKeys + lane_ / 2;
    const int32_t half = lane_ % 2 * 8;
#pragma unroll
    for (int i = 0; i < kStepTiles; ++i) {
      const int32_t tile = i * kScoreTile;
      if (left >= tile) {
        keys.near[i] = load_once(kPaged ? index.key(n + tile) + half : near + tile * kIndexDim, policy_);
      }
      if (left >= tile + kScoreTile / 2) {
        keys.far[i] =
            load_once(kPaged ? index.key(n + tile + kScoreTile / 2) + (8 - half) : far + tile * kIndexDim, policy_);
      }
    }
  }

  /// Even lanes get key lane / 2 of a tile, odd lanes the key 16 further on: key position_.
  __device__ void exchange(const IndexStep& keys, uint4 (&low)[kStepTiles], uint4 (&high)[kStepTiles]) const {
    const bool is_even = lane_ % 2 == 0;
#pragma unroll
    for (int i = 0; i < kStepTiles; ++i) {
      const uint4& near = keys.near[i];
      const uint4& far = keys.far[i];
      low[i] = {is_even ? near.x : far.x, is_even ? near.y : far.y, is_even ? near.z : far.z, is_even ? near.w : far.w};
      const uint4 other = {is_even ? far.x : near.x, is_even ? far.y : near.y, is_even ? far.z : near.z,
                           is_even ? far.w : near.w};
      high[i] = {__shfl_xor_sync(0xffffffffu, other.x, 1), __shfl_xor_sync(0xffffffffu, other.y, 1),
                 __shfl_xor_sync(0xffffffffu, other.z, 1), __shfl_xor_sync(0xffffffffu, other.w, 1)};
    }
  }

  /// Every lane scores key position_ of both tiles.
  __device__ void score_step(int32_t step, const uint4 (&low)[kStepTiles], const uint4 (&high)[kStepTiles],
                             int32_t rows) {
    float scores[kRows][kStepTiles] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float values[kStepTiles][8];
#pragma unroll
      for (int i = 0; i < kStepTiles; ++i) {
        unpack(half == 0 ? low[i] : high[i], values[i]);
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
    const uint32_t far_count = shared_.far_count[row];
    const int64_t row_tile = static_cast<int64_t>(shared_.row_index[row]) * params_.tiles + tile;
    uint32_t maxima[kStepTiles];
#pragma unroll
    for (int i = 0; i < kStepTiles; ++i) {
      // What lies before the first far key wraps around.
      const auto far = static_cast<uint32_t>((tile + i) * kScoreTile + position_ - params_.sink_tokens);
      scores[i] = far < far_count ? scores[i] : -INFINITY;
      maxima[i] = __reduce_max_sync(0xffffffffu, order_key(scores[i]));
    }
    if (shared_.keeps_scores[row]) {
#pragma unroll
      for (int i = 0; i < kStepTiles; ++i) {
        params_.scores[(row_tile + i) * kScoreTile + position_] = scores[i];
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
  const int32_t lane_, warp_;
  const int32_t position_;  ///< of the lane's key in a tile
  const int32_t sequence_;
  const uint64_t policy_;
  const int32_t stride_;
  // In a contiguous cache: where the lane reads of step 0.
  const uint16_t* near_ = nullptr;
  const uint16_t* far_ = nullptr;
  int32_t last_start_ = 0;  ///< the last first key of a step with anything for the lane
  ScoreSum sums_[kRows];
};

}  // namespace retrosparse::kernels::sm90
