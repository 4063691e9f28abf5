#pragma once
// A consumer warpgroup of the tile selection kernel: one query tile of every item. A first pass over the (sampled) far
// keys gives each query's log-sum-exp and with it its threshold; a second over all far keys forms scores in binary16,
// two to a register, takes their maxima over 16 keys of a query and compares those with the thresholds.
#include <cuda_fp16.h>

#include "sm90/numeric.cuh"
#include "sm90/tile_selection_shared.cuh"
#include "sm90/wgmma.cuh"

namespace retrosparse::kernels::sm90 {

class TileSelector {
 public:
  __device__ TileSelector(const TileSelectionKernelParams& params, TileSharedMemory& shared)
      : params_(params),
        shared_(shared),
        warpgroup_(__shfl_sync(0xffffffffu, threadIdx.x / 128 - 1, 0)),
        lane_(threadIdx.x % 32),
        row_(threadIdx.x % 128 / 32 * 16 + lane_ / 4) {}

  __device__ void run() {
    while (true) {
      shared_.item_full[item_ring_.stage].wait(item_ring_.parity);
      item_ = &shared_.items[item_ring_.stage];
      if (item_->r == TileItem::kStop) {
        return;
      }
      select();
      shared_.item_empty[item_ring_.stage].arrive();
      item_ring_.advance();
    }
  }

 private:
  static constexpr int kBlocks = 2;  // of 64 queries
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLn2 = 0.69314718f;

  __device__ void select() {
    const PrefillSequence& sequence = params_.sequences[item_->sequence];
    words_ = shared_.words[warpgroup_];
    const int32_t word_count = (sequence.key_count + 32 * kPrefillKeyTile - 1) / (32 * kPrefillKeyTile);
    for (int32_t i = threadIdx.x % 128; i < word_count; i += 128) {
      words_[i] = 0;
    }
    first_end_ = far_end(sequence, kPrefillQueryTile * warpgroup_);
    last_end_ = far_end(sequence, min(kPrefillQueryTile * (warpgroup_ + 1), item_->query_count) - 1);
    load_queries(sequence);
    sync_warpgroup();  // the words are zero

    uint32_t thresholds[kBlocks][2];
    find_thresholds(sequence, thresholds);
    mark_tiles(sequence, thresholds);

    sync_warpgroup();
    if (kPrefillQueryTile * warpgroup_ < item_->query_count) {
      const int64_t query_tile =
          params_.first_query_tile[item_->sequence] + item_->first_query / kPrefillQueryTile + warpgroup_;
      uint32_t* row = params_.selected_tiles + item_->r * params_.selected_tiles_head_stride +
                      query_tile * params_.selected_tiles_query_stride;
      for (int32_t i = threadIdx.x % 128; i < word_count; i += 128) {
        row[i] = words_[i];
      }
    }
  }

  /// One past the last far key of a query of the item.
  __device__ int32_t far_end(const PrefillSequence& sequence, int32_t query) const {
    return sequence.key_count - sequence.query_count + item_->first_query + query - params_.window + 1;
  }
  /// The same for one of the thread's four queries; of queries past the end, no key.
  __device__ int32_t own_far_end(const PrefillSequence& sequence, int32_t block, int32_t half) const {
    const int32_t query = own_query(block, half);
    return query < item_->query_count ? far_end(sequence, query) : 0;
  }
  __device__ int32_t own_query(int32_t block, int32_t half) const {
    return kPrefillQueryTile * warpgroup_ + 64 * block + row_ + 8 * half;
  }

  /// The index queries as A operands.
  __device__ void load_queries(const PrefillSequence& sequence) {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int32_t query = own_query(block, half);
        const bool exists = query < item_->query_count;
        const int64_t row = sequence.query_begin + item_->first_query + (exists ? query : 0);
        const auto* q = reinterpret_cast<const uint32_t*>(params_.queries +
                                                          (row * params_.num_selected_heads + item_->r) * kIndexDim);
        queries_[block][half] = exists ? q[lane_ % 4] : 0;
        queries_[block][half + 2] = exists ? q[4 + lane_ % 4] : 0;
      }
    }
  }

  /// First pass. The thresholds in binary16, twice in a register, rounded down; infinite for queries without far keys.
  __device__ void find_thresholds(const PrefillSequence& sequence, uint32_t (&thresholds)[kBlocks][2]) {
    float maximum[kBlocks][2], sum[kBlocks][2];
    int32_t end[kBlocks][2];  // one past the last sampled row that the query counts
    const int32_t stride = item_->sample_stride;
    const auto sampled_end = [&](int32_t far_end_of_query) {
      return (sequence.key_begin + max(far_end_of_query, 0) + stride - 1) / stride;
    };
#pragma unroll
    for (int i = 0; i < 2 * kBlocks; ++i) {
      maximum[i / 2][i % 2] = -INFINITY;
      sum[i / 2][i % 2] = 0;
      end[i / 2][i % 2] = sampled_end(own_far_end(sequence, i / 2, i % 2));
    }
    const int32_t least_end = sampled_end(first_end_);
    const int32_t most_end = sampled_end(last_end_);
    for (int32_t step = 0; step < item_->sample_steps; ++step) {
      shared_.key_full[key_ring_.stage].wait(key_ring_.parity);
      const uint64_t keys = narrow_matrix_descriptor(shared_address(shared_.keys[key_ring_.stage]));
#pragma unroll 1
      for (int half = 0; half < 2; ++half) {
        const int32_t first = item_->sample_begin + step * kScoreKeys + half * kScoreKeys / 2;
        if (first >= most_end) {
          break;
        }
        const bool masked = first + kScoreKeys / 2 > least_end;
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) {
          float scores[64];
          settle(scores);
          wgmma_fence();
          wgmma_half(scores, queries_[block], advance(keys, half * kScoreKeys / 2 * 32));
          wgmma_commit();
          wgmma_wait<0>();
          settle(scores);
          if (masked) {
            mask(scores, first, end[block]);
          }
          add(scores, maximum[block], sum[block]);
        }
      }
      release_keys();
    }

#pragma unroll
    for (int i = 0; i < 2 * kBlocks; ++i) {
      const int32_t query = own_query(i / 2, i % 2);
      const float total = lane_sum<4>(sum[i / 2][i % 2]);
      const float lse_far =
          total > 0 ? (maximum[i / 2][i % 2] + log2f(static_cast<float>(stride) * (total - 1) + 1)) * kLn2 : -INFINITY;
      float threshold = INFINITY;
      if (query < item_->query_count) {
        const int64_t row = sequence.query_begin + item_->first_query + query;
        const int64_t gate = item_->r * params_.gates_head_stride + row;
        const float local =
            params_.lse_local[params_.heads[item_->r] * params_.lse_head_stride + row] - params_.gates[gate];
        const float larger = fmaxf(lse_far, local);
        threshold = params_.log_tile_shares[item_->r] + larger + logf(expf(lse_far - larger) + expf(local - larger));
        if (params_.lse_far != nullptr && lane_ % 4 == 0) {
          params_.lse_far[gate] = lse_far;
        }
      }
      const uint32_t bits = __half_as_ushort(__float2half_rd(threshold));
      thresholds[i / 2][i % 2] = bits | bits << 16;
    }
  }

  /// Sets the scores of sampled rows past the queries' ends to -inf.
  __device__ void mask(float (&scores)[64], int32_t first, const int32_t (&end)[2]) const {
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      const int32_t column = 8 * (i / 4) + 2 * (lane_ % 4) + i % 2;
      scores[i] = first + column < end[i / 2 % 2] ? scores[i] : -INFINITY;
    }
  }

  /// Adds 2^(score log2 e - maximum) to the thread's own part of the sums.
  __device__ static void add(const float (&scores)[64], float (&maximum)[2], float (&sum)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float largest = scores[2 * row];
#pragma unroll
      for (int j = 0; j < 16; ++j) {
        largest = fmaxf(largest, fmaxf(scores[4 * j + 2 * row], scores[4 * j + 2 * row + 1]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
      const float new_maximum = fmaxf(maximum[row], __fmul_rn(largest, kLog2E));
      const float finite = new_maximum == -INFINITY ? 0.0f : new_maximum;
      float even = sum[row] * exp2_approximate(maximum[row] - finite);
      float odd = 0;
#pragma unroll
      for (int j = 0; j < 16; ++j) {
        even += exp2_approximate(scores[4 * j + 2 * row] * kLog2E - finite);
        odd += exp2_approximate(scores[4 * j + 2 * row + 1] * kLog2E - finite);
      }
      maximum[row] = new_maximum;
      sum[row] = even + odd;
    }
  }

  /// Second pass.
  __device__ void mark_tiles(const PrefillSequence& sequence, const uint32_t (&thresholds)[kBlocks][2]) {
    for (int32_t step = item_->first_step; step < item_->end_step; ++step) {
      shared_.key_full[key_ring_.stage].wait(key_ring_.parity);
      const int32_t first_key = step * kScoreKeys;
      if (first_key < last_end_) {
        const uint64_t keys = narrow_matrix_descriptor(shared_address(shared_.keys[key_ring_.stage]));
        const bool masked = first_key < params_.sink_tokens || first_key + kScoreKeys > first_end_;
        uint32_t bits = 0;
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) {  // the other warpgroups' products fill the gaps
          uint32_t scores[64];
          settle(scores);
          wgmma_fence();
          wgmma_half(scores, queries_[block], keys);
          wgmma_commit();
          wgmma_wait<0>();
          settle(scores);
          bits |= compare(sequence, scores, thresholds[block], block, first_key, masked);
        }
        release_keys();
        bits = __reduce_or_sync(0xffffffffu, bits);
        if (lane_ == 0 && bits != 0) {
          atomicOr(&words_[step / 8], bits << (4 * (step % 8)));
        }
      } else {
        release_keys();
      }
    }
  }

  /// Which of the four key tiles hold a score above the thread's thresholds.
  __device__ uint32_t compare(const PrefillSequence& sequence, uint32_t (&scores)[64], const uint32_t (&thresholds)[2],
                              int32_t block, int32_t first_key, bool masked) const {
    if (masked) {
      mask(sequence, scores, block, first_key);
    }
    uint32_t bits = 0;
#pragma unroll
    for (int tile = 0; tile < 4; ++tile) {
      uint32_t above = 0;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        __half2 maximum = as_half2(scores[16 * tile + half]);
#pragma unroll
        for (int j = 1; j < 8; ++j) {
          maximum = __hmax2(maximum, as_half2(scores[16 * tile + 2 * j + half]));
        }
        above |= __hgt2_mask(maximum, as_half2(thresholds[half]));
      }
      bits |= above != 0 ? 1u << tile : 0u;
    }
    return bits;
  }

  /// Sets the scores of keys that are not far for their query to -inf.
  __device__ void mask(const PrefillSequence& sequence, uint32_t (&scores)[64], int32_t block,
                       int32_t first_key) const {
    constexpr uint32_t kMinusInfinity = 0xfc00u;
    const int32_t own_first = first_key + 2 * (lane_ % 4);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int32_t end = own_far_end(sequence, block, half);
#pragma unroll
      for (int j = 0; j < 32; ++j) {
        const int32_t key = own_first + 8 * j;
        uint32_t& pair = scores[2 * j + half];
        const bool keep_low = key >= params_.sink_tokens && key < end;
        const bool keep_high = key + 1 >= params_.sink_tokens && key + 1 < end;
        pair = (keep_low ? pair & 0xffffu : kMinusInfinity) | (keep_high ? pair & 0xffff0000u : kMinusInfinity << 16);
      }
    }
  }

  __device__ static __half2 as_half2(const uint32_t& pair) {
    return reinterpret_cast<const __half2&>(pair);
  }

  /// One arrival per warp: a warp's wait for its products covers its own reads only.
  __device__ void release_keys() {
    if (lane_ == 0) {
      shared_.key_empty[key_ring_.stage].arrive();
    }
    key_ring_.advance();
  }

  __device__ void sync_warpgroup() {
    named_barrier_sync(1 + warpgroup_, 128);
  }

  const TileSelectionKernelParams& params_;
  TileSharedMemory& shared_;
  const int32_t warpgroup_, lane_;
  const int32_t row_;  ///< the thread's first row among a block's 64; the second is 8 further
  const TileItem* item_ = nullptr;
  uint32_t* words_ = nullptr;
  int32_t first_end_ = 0, last_end_ = 0;  ///< far_end of the query tile's first and last query
  uint32_t queries_[kBlocks][4];
  Ring<2> item_ring_;
  Ring<kScoreStages> key_ring_;
};

}  // namespace retrosparse::kernels::sm90
