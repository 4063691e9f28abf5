#pragma once
// Attention of one row over single keys anywhere in the sequence, by the blocks of a cluster, and its sum with what
// sinks and window gave. No tensor cores: each key serves one row, so that what counts is how many reads are under way.
#include <cooperative_groups.h>

#include "retrosparse_kernels/decode_attention.h"
#include "sm90/selection_index.cuh"
#include "sm90/selection_radix.cuh"
#include "sm90/weight_sum.cuh"

namespace retrosparse::kernels::sm90 {

struct RowAttentionParams {
  const __nv_bfloat16* q;
  __nv_bfloat16* o;
  const float* o_float;  ///< of sinks and window
  float* lse;            ///< of sinks and window; then of all
  KeyValueCache cache;
  int32_t heads_per_group;
  float scale_log2;  ///< softmax_scale * log2(e)
};

template <int kHeadDim>
struct alignas(16) RowSharedMemory {
  float output[kPickWarps][kHeadDim];
  WeightSum weights[kPickWarps];
  float block_output[kHeadDim];
  WeightSum block_weight;
  int32_t positions[kMaxSelectedTokens];  ///< the block's share of the selected keys
};

template <int kHeadDim>
class RowAttention {
 public:
  using Shared = RowSharedMemory<kHeadDim>;

  __device__ RowAttention(const RowAttentionParams& params, const SelectionKernelParams& selection, Shared& shared,
                          const SelectionRow& row)
      : params_(params),
        shared_(shared),
        cluster_(cooperative_groups::this_cluster()),
        block_(static_cast<int32_t>(cluster_.block_rank())),
        blocks_(static_cast<int32_t>(cluster_.num_blocks())),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        sequence_(row.sequence),
        index_((static_cast<int64_t>(row.sequence) * selection.query_tokens + row.token) * selection.num_heads +
               row.head) {
    const bool paged = params.cache.page_table != nullptr;
    const int64_t offset = row.head / params.heads_per_group * params.cache.head_stride + lane_ % kLanes * kVector +
                           (paged ? 0 : sequence_ * params.cache.sequence_stride);
    k_ = static_cast<const __nv_bfloat16*>(params.cache.k) + offset;
    v_ = static_cast<const __nv_bfloat16*>(params.cache.v) + offset;
  }

  __device__ bool is_first() const { return block_ == 0; }

  /// The blocks of the cluster bring the keys that are likely to be selected to L2, a line of 128 bytes to a thread.
  __device__ int32_t first_to_prefetch() const { return block_ + static_cast<int32_t>(threadIdx.x) / kLines * blocks_; }
  __device__ int32_t prefetch_stride() const { return kPickThreads / kLines * blocks_; }
  __device__ void prefetch(int32_t key) const {
    const int32_t line = static_cast<int32_t>(threadIdx.x) % kLines;
    const __nv_bfloat16* first_column = (line % 2 == 0 ? k_ : v_) - lane_ % kLanes * kVector;
    prefetch_to_l2(first_column + key_offset(key) + line / 2 * kLineColumns);
  }

  /// By the whole block, once sinks and window are done.
  __device__ void read() {
    unpack(*reinterpret_cast<const uint4*>(params_.q + index_ * kHeadDim + lane_ % kLanes * kVector), query_);
    if (block_ == 0 && threadIdx.x < kHeadDim) {
      resident_ = {__ldcg(params_.lse + index_) * kLog2E, 1};
      resident_value_ = __ldcg(params_.o_float + index_ * kHeadDim + threadIdx.x);
    }
  }

  /// Takes key `slot` of `count` selected ones if it is in the block's share.
  __device__ void take(int32_t slot, int32_t position, int32_t count) {
    const int32_t own = slot - begin(count, block_);
    if (own >= 0 && slot < begin(count, block_ + 1)) {
      shared_.positions[own] = position;
    }
  }

  /// By the whole block, after a barrier: attends to its share of `count` keys.
  __device__ void attend(int32_t count) {
    const int32_t own = begin(count, block_ + 1) - begin(count, block_);
#pragma unroll 1
    for (int32_t first = 0; first < own; first += kBatch * kSlots) {
      uint4 keys[kBatch], values[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int64_t offset = key_offset(shared_.positions[min(index(first, i), own - 1)]);
        keys[i] = __ldg(reinterpret_cast<const uint4*>(k_ + offset));
        values[i] = __ldg(reinterpret_cast<const uint4*>(v_ + offset));
      }
      float scores[kBatch];
      float highest = total_.reference;
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const float score = dot(keys[i]) * params_.scale_log2;  // by all lanes, whatever exists
        scores[i] = index(first, i) < own ? score : -INFINITY;
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
        const bool exists = index(first, i) < own;
        const float weight = factor_of(scores[i], highest);
        float value[kVector];
        unpack(values[i], value);
        total_.sum += weight;
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          output_[j] = exists ? fmaf(weight, value[j], output_[j]) : output_[j];
        }
      }
    }
  }

  /// By the whole cluster: adds up all blocks and what sinks and window gave, and writes the row.
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
    WeightSum total = resident_;
    float value = resident_value_;
    if (column < kHeadDim) {
#pragma unroll 4
      for (int warp = 0; warp < kPickWarps; ++warp) {
        add(total, value, shared_.weights[warp], shared_.output[warp][column]);
      }
      shared_.block_output[column] = value;
      if (column == 0) {
        shared_.block_weight = total;
      }
    }
    cluster_.sync();
    if (block_ == 0 && column < kHeadDim) {
#pragma unroll 4
      for (int32_t peer = 1; peer < blocks_; ++peer) {
        add(total, value, *cluster_.map_shared_rank(&shared_.block_weight, peer),
            *cluster_.map_shared_rank(&shared_.block_output[column], peer));
      }
      params_.o[index_ * kHeadDim + column] = __float2bfloat16(value / total.sum);
      if (column == 0) {
        params_.lse[index_] = (total.reference + log2f(total.sum)) * kLn2;
      }
    }
    cluster_.sync();  // shared memory of the others has been read
  }

 private:
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLn2 = 0.69314718f;
  static constexpr int kVector = 8;                     // columns of a lane
  static constexpr int kLanes = kHeadDim / kVector;     // to a key
  static constexpr int kSlots = kPickThreads / kLanes;  // keys of a block side by side
  static constexpr int kBatch = 4;                      // keys that a lane reads at once

  static constexpr int kLineColumns = 64;                     // in 128 bytes
  static constexpr int kLines = 2 * kHeadDim / kLineColumns;  // of a key and its value

  /// The first slot of a block's share of `count` keys.
  __device__ int32_t begin(int32_t count, int32_t block) const {
    return count * block / blocks_;
  }

  /// Which of the block's keys this lane takes as number `i` of a batch.
  __device__ static int32_t index(int32_t first, int32_t i) {
    return first + i * kSlots + static_cast<int32_t>(threadIdx.x) / kLanes;
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

  const RowAttentionParams& params_;
  Shared& shared_;
  const cooperative_groups::cluster_group cluster_;
  const int32_t block_, blocks_;  ///< in the cluster
  const int32_t lane_, warp_;
  const int64_t sequence_;
  const int64_t index_;  ///< of the row in q and o (times head_dim) and lse
  const __nv_bfloat16* k_;
  const __nv_bfloat16* v_;
  WeightSum resident_;  ///< of sinks and window, in the first block
  float resident_value_ = 0;
  float query_[kVector];
  float output_[kVector] = {};
  WeightSum total_;
};

}  // namespace retrosparse::kernels::sm90
