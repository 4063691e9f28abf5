#pragma once
// Attention of one row over single keys anywhere in the sequence, by a block of a cluster, and the sum over the
// cluster. No tensor cores: each key serves one row, so that what counts is how many reads are under way.
#include <cooperative_groups.h>

#include "sm90/decode_merge.cuh"
#include "sm90/selection_pick.cuh"

namespace retrosparse::kernels::sm90 {

template <int kHeadDim>
struct alignas(16) RowSharedMemory {
  static constexpr int kShares = 2 * kPickWarps;  ///< every warp's selected keys, and its part of sinks and window
  float output[kShares][kHeadDim];
  WeightSum weights[kShares];
  float block_output[kHeadDim];
  WeightSum block_weight;
  int32_t positions[kMaxSelectedTokens];  ///< the block's part of the selected keys
};

template <int kHeadDim>
class RowAttention {
 public:
  using Shared = RowSharedMemory<kHeadDim>;

  __device__ RowAttention(const DecodeKernelParams& params, Shared& shared, const SelectionRow& row)
      : params_(params),
        shared_(shared),
        cluster_(cooperative_groups::this_cluster()),
        part_(static_cast<int32_t>(cluster_.block_rank())),
        parts_(static_cast<int32_t>(cluster_.num_blocks())),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        group_(row.head / params.plan.heads_per_group),
        index_((static_cast<int64_t>(row.sequence) * params.query_tokens + row.token) * params.num_heads + row.head),
        sequence_(row.sequence) {
    const int32_t row_of_group = row.token * params.plan.heads_per_group + row.head % params.plan.heads_per_group;
    const int32_t pair =
        (row.sequence * params.num_key_value_heads + group_) * params.plan.row_tiles + row_of_group / kDecodeRows;
    partials_ = DecodePartials::of<kHeadDim>(params, pair);
    row_of_tile_ = row_of_group % kDecodeRows;
  }

  /// Log-sum-exp over sinks and window, in every thread.
  __device__ float lse_local() const {
    WeightSum total;
    for (int32_t i = lane_; i < params_.plan.window_splits; i += 32) {
      const float2 partial = __ldcg(&partials_.sums[slot(i)]);
      float nothing = 0;
      add(total, nothing, {partial.x, partial.y}, nothing);
    }
    return natural_log(sum_over_warp(total));
  }

  /// Adds up this block's part of what the first launch left of sinks and window.
  __device__ void add_resident() {
    WeightSum total;
    float4 output;
    sum_partials<kHeadDim>(
        partials_, params_.plan.window_splits, part_ * kPickWarps + warp_, parts_ * kPickWarps,
        [&](int32_t i) { return slot(i); }, total, output);
    if (lane_ < kHeadDim / 4) {
      reinterpret_cast<float4*>(shared_.output[kPickWarps + warp_])[lane_] = output;
    }
    if (lane_ == 0) {
      shared_.weights[kPickWarps + warp_] = total;
    }
  }

  __device__ void load_query() {
    unpack(*reinterpret_cast<const uint4*>(params_.q + index_ * kHeadDim + lane_ % kLanes * kVector), query_);
  }

  /// This block's part of `count` selected keys: slots [begin, end).
  __device__ int32_t begin(int32_t count) const { return count * part_ / parts_; }
  __device__ int32_t end(int32_t count) const { return count * (part_ + 1) / parts_; }

  /// Attends to the `count` keys in shared.positions.
  __device__ void attend(int32_t count) {
    const bool paged = params_.cache.page_table != nullptr;
    const int64_t offset = group_ * params_.cache.head_stride + lane_ % kLanes * kVector +
                           (paged ? 0 : sequence_ * params_.cache.sequence_stride);
    const __nv_bfloat16* k = static_cast<const __nv_bfloat16*>(params_.cache.k) + offset;
    const __nv_bfloat16* v = static_cast<const __nv_bfloat16*>(params_.cache.v) + offset;
#pragma unroll 1
    for (int32_t first = 0; first < count; first += kBatch * kSlots) {
      uint4 keys[kBatch], values[kBatch];
      bool exists[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int32_t index = first + i * kSlots + static_cast<int32_t>(threadIdx.x) / kLanes;
        exists[i] = index < count;
        const int64_t at = key_offset(exists[i] ? shared_.positions[index] : 0);
        keys[i] = *reinterpret_cast<const uint4*>(k + at);
        values[i] = *reinterpret_cast<const uint4*>(v + at);
      }
      float scores[kBatch];
      float highest = total_.reference;
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const float score = dot(keys[i]) * params_.scale_log2;  // by all lanes, whatever exists
        scores[i] = exists[i] ? score : -INFINITY;
        highest = fmaxf(highest, scores[i]);
      }
      const float factor = factor_of(total_.reference, highest);
      total_.reference = highest;
      total_.sum *= factor;
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        output_[j] *= factor;
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const float weight = factor_of(scores[i], highest);
        float value[kVector];
        unpack(values[i], value);
        total_.sum += weight;
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          output_[j] = exists[i] ? fmaf(weight, value[j], output_[j]) : output_[j];
        }
      }
    }
  }

  /// Sums up all shares of the cluster and writes the row.
  __device__ void finish() {
#pragma unroll
    for (int offset = kLanes; offset < 32; offset *= 2) {
      add_from_lane(offset);
    }
    if (lane_ < kLanes) {
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        shared_.output[warp_][lane_ * kVector + j] = output_[j];
      }
    }
    if (lane_ == 0) {
      shared_.weights[warp_] = total_;
    }
    __syncthreads();
    const auto column = static_cast<int32_t>(threadIdx.x);
    WeightSum total;
    float value = 0;
    if (column < kHeadDim) {
#pragma unroll 4
      for (int share = 0; share < Shared::kShares; ++share) {
        add(total, value, shared_.weights[share], shared_.output[share][column]);
      }
      shared_.block_output[column] = value;
      shared_.block_weight = total;  // the same from every thread
    }
    cluster_.sync();
    if (part_ == 0 && column < kHeadDim) {
#pragma unroll 1
      for (int32_t peer = 1; peer < parts_; ++peer) {
        add(total, value, *cluster_.map_shared_rank(&shared_.block_weight, peer),
            *cluster_.map_shared_rank(&shared_.block_output[column], peer));
      }
      params_.o[index_ * kHeadDim + column] = from_float<__nv_bfloat16>(value / total.sum);
      if (column == 0 && params_.lse != nullptr) {
        params_.lse[index_] = natural_log(total);
      }
    }
    cluster_.sync();  // shared memory of the others has been read
  }

 private:
  static constexpr int kVector = 8;                     // columns of a lane
  static constexpr int kLanes = kHeadDim / kVector;     // to a key
  static constexpr int kSlots = kPickThreads / kLanes;  // keys of a block side by side
  static constexpr int kBatch = 8;                      // keys that a lane reads at once

  /// Of window unit i's partial results, the row's.
  __device__ int32_t slot(int32_t i) const {
    return i * kDecodeRows + row_of_tile_;
  }

  __device__ int64_t key_offset(int32_t key) const {
    const KeyValueCache& cache = params_.cache;
    if (cache.page_table == nullptr) {
      return key * cache.token_stride;
    }
    const int32_t page =
        __ldg(cache.page_table + sequence_ * cache.page_table_stride + (key >> (31 - __clz(cache.page_size))));
    return page * cache.sequence_stride + (key & (cache.page_size - 1)) * cache.token_stride;
  }

  __device__ static void unpack(const uint4& packed, float (&values)[kVector]) {
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      values[2 * i] = __uint_as_float(words[i] << 16);
      values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
  }

  /// q . k, in all lanes of the key.
  __device__ float dot(const uint4& key) const {
    float values[kVector];
    unpack(key, values);
    float sum = 0;
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      sum = fmaf(query_[j], values[j], sum);
    }
    return lane_sum<kLanes>(sum);
  }

  __device__ void add_from_lane(int offset) {
    const WeightSum other = {__shfl_xor_sync(0xffffffffu, total_.reference, offset),
                             __shfl_xor_sync(0xffffffffu, total_.sum, offset)};
    const float reference = fmaxf(total_.reference, other.reference);
    const float keep = factor_of(total_.reference, reference);
    const float take = factor_of(other.reference, reference);
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      output_[j] = combine(keep, output_[j], take, __shfl_xor_sync(0xffffffffu, output_[j], offset));
    }
    total_ = {reference, combine(keep, total_.sum, take, other.sum)};
  }

  const DecodeKernelParams& params_;
  Shared& shared_;
  const cooperative_groups::cluster_group cluster_;
  const int32_t part_, parts_;
  const int32_t lane_, warp_;
  const int32_t group_;
  const int64_t index_;  ///< of the row in q and o (times head_dim) and lse
  const int64_t sequence_;
  DecodePartials partials_;
  int32_t row_of_tile_;
  float query_[kVector];
  float output_[kVector] = {};
  WeightSum total_;
};

}  // namespace retrosparse::kernels::sm90
