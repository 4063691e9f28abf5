#pragma once
// From the warps' shares to the output: a block sums up its warps, leaves the result for the pair, and the last blocks
// of the pair to start merge its rows by their log-sum-exps.
#include "sm90/decode_attention.cuh"

namespace retrosparse::kernels::sm90 {

/// Blocks start in the order of their index, so that a block may wait for lower ones, which run already, and for the
/// few higher ones of its pair: they only need room, and at most 15 blocks of the pair wait.
class PairCounters {
 public:
  __device__ PairCounters(int32_t* counters, int32_t pair) : arrived_(counters + 2 * pair), merged_(arrived_ + 1) {}

  /// By the whole block: what it wrote before is visible to a block that waits.
  __device__ void arrive() {
    __syncthreads();
    if (threadIdx.x == 0) {
      asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(arrived_) : "memory");
    }
  }
  __device__ void wait_for(int32_t units) {
    if (threadIdx.x == 0) {
      int32_t arrived = 0;
      do {
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(arrived) : "l"(arrived_) : "memory");
      } while (arrived < units);
    }
    __syncthreads();
  }
  /// The last of the merging blocks leaves the counters zero for the next launch.
  __device__ void finish(int32_t merging_units) {
    if (threadIdx.x == 0 && atomicAdd(merged_, 1) == merging_units - 1) {
      *arrived_ = 0;
      *merged_ = 0;
    }
  }

 private:
  int32_t* arrived_;
  int32_t* merged_;
};

/// Partial results of a pair: weighted sums of values and their weights.
struct DecodePartials {
  float* values;
  float2* sums;

  template <int kHeadDim>
  __device__ static DecodePartials of(const DecodeKernelParams& params, int32_t pair) {
    const int64_t first = static_cast<int64_t>(pair) * params.plan.partial_rows();
    return {params.partials + first * kHeadDim, params.partial_sums + first};
  }
};

/// By a whole warp: the sum of the partial results slot(part), slot(part + parts), ... of `count` in all, as four
/// columns to each of the first kHeadDim / 4 lanes.
template <int kHeadDim, class Slot>
__device__ inline void sum_partials(const DecodePartials& partials, int32_t count, int32_t part, int32_t parts,
                                    const Slot& slot, WeightSum& total, float4& output) {
  constexpr int kVectors = kHeadDim / 4;
  constexpr int kAtOnce = 32 / kVectors;  // partial results that a warp reads side by side: 1 or 2
  constexpr int kBatch = 8;
  const int32_t lane = threadIdx.x % 32;
  const int32_t stride = parts * kAtOnce;
  total = {};
  output = make_float4(0, 0, 0, 0);
#pragma unroll 1
  for (int32_t first = part * kAtOnce + lane / kVectors; first < count; first += kBatch * stride) {
    float2 sums[kBatch];
    float4 values[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int32_t number = first + i * stride;
      const bool exists = number < count;
      const int32_t source = exists ? slot(number) : 0;
      sums[i] = exists ? __ldcg(&partials.sums[source]) : make_float2(-INFINITY, 0);
      const auto* partial = reinterpret_cast<const float4*>(partials.values + static_cast<int64_t>(source) * kHeadDim);
      values[i] = exists ? __ldcg(partial + lane % kVectors) : make_float4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      add(total, output, {sums[i].x, sums[i].y}, values[i]);
    }
  }
  if constexpr (kAtOnce == 2) {
    __syncwarp();
    const WeightSum other = {__shfl_xor_sync(0xffffffffu, total.reference, 16),
                             __shfl_xor_sync(0xffffffffu, total.sum, 16)};
    const float4 values =
        make_float4(__shfl_xor_sync(0xffffffffu, output.x, 16), __shfl_xor_sync(0xffffffffu, output.y, 16),
                    __shfl_xor_sync(0xffffffffu, output.z, 16), __shfl_xor_sync(0xffffffffu, output.w, 16));
    add(total, output, other, values);
  }
}

template <int kHeadDim>
class DecodeMerge {
 public:
  using Shared = DecodeSharedMemory<kHeadDim>;

  __device__ DecodeMerge(const DecodeKernelParams& params, const DecodeUnit& unit, Shared& shared)
      : params_(params),
        unit_(unit),
        shared_(shared),
        map_(params, unit),
        partials_(DecodePartials::of<kHeadDim>(params, unit.pair)) {}

  /// Leaves the sum of the block's warps for the rows of its unit.
  __device__ void publish() {
    const bool one_row = unit_.own_row >= 0;
    const int32_t rows = one_row ? 1 : unit_.rows;
    const int32_t all_rows_units = params_.plan.window_splits + params_.plan.far_splits;
    const int32_t base =
        one_row ? kDecodeRows * all_rows_units + unit_.number - all_rows_units : kDecodeRows * unit_.number;
    constexpr int kVectors = kHeadDim / 4;
    for (int32_t i = threadIdx.x; i < rows * kVectors; i += kDecodeThreads) {
      const int32_t row = one_row ? unit_.own_row : i / kVectors;
      const int32_t column = i % kVectors;
      WeightSum total;
      float4 output = make_float4(0, 0, 0, 0);
#pragma unroll
      for (int warp = 0; warp < kDecodeWarps; ++warp) {
        add(total, output, shared_.sums[warp][row], reinterpret_cast<const float4*>(shared_.output[warp][row])[column]);
      }
      const int32_t slot = base + (one_row ? 0 : row);
      reinterpret_cast<float4*>(partials_.values + static_cast<int64_t>(slot) * kHeadDim)[column] = output;
      if (column == 0) {
        partials_.sums[slot] = make_float2(total.reference, total.sum);
      }
    }
  }

  /// Once the block has published: the last ones of the pair write its rows.
  __device__ void merge_pair() {
    PairCounters counters(params_.counters, unit_.pair);
    counters.arrive();

    // Row i falls to live unit `live - 1 - i % mergers`.
    const int32_t mergers = min(unit_.live, unit_.rows);
    const int32_t merger = unit_.live - 1 - unit_.index;
    if (merger >= mergers) {
      return;
    }
    counters.wait_for(unit_.live);
    for (int32_t row = merger; row < unit_.rows; row += mergers) {
      merge(row);
    }
    counters.finish(mergers);
  }

 private:
  /// Merges and writes row `row`. Every warp takes every kDecodeWarps-th partial result, sums and values in one go.
  __device__ void merge(int32_t row) {
    const DecodePlan& plan = params_.plan;
    const bool is_dense = (unit_.dense_rows >> row & 1u) != 0;
    const bool is_selected = (unit_.selected_rows >> row & 1u) != 0;
    const int32_t selected_rank = __popc(unit_.selected_rows & ((1u << row) - 1));
    const int32_t resident = plan.window_splits + (is_dense ? plan.far_splits : 0);
    const int32_t slots = resident + (is_selected ? plan.selected_splits : 0);
    const int32_t first_selected =
        kDecodeRows * (plan.window_splits + plan.far_splits) + selected_rank * plan.selected_splits;
    const auto slot = [&](int32_t i) { return i < resident ? i * kDecodeRows + row : first_selected + i - resident; };

    constexpr int kVectors = kHeadDim / 4;
    const int32_t lane = threadIdx.x % 32;
    const int32_t warp = threadIdx.x / 32;
    WeightSum total;
    float4 output;
    sum_partials<kHeadDim>(partials_, slots, warp, kDecodeWarps, slot, total, output);
    if (lane < kVectors) {
      reinterpret_cast<float4*>(shared_.output[warp][0])[lane] = output;
    }
    if (lane == 0) {
      shared_.sums[warp][0] = total;
    }
    __syncthreads();
    if (threadIdx.x < kHeadDim) {
      write(map_.index(row));
    }
    __syncthreads();  // shared memory is free for the next row
  }

  /// Sums up the warps and writes one column of a row.
  __device__ void write(int64_t index) {
    WeightSum total;
    float value = 0;
#pragma unroll
    for (int warp = 0; warp < kDecodeWarps; ++warp) {
      add(total, value, shared_.sums[warp][0], shared_.output[warp][0][threadIdx.x]);
    }
    params_.o[index * kHeadDim + threadIdx.x] = from_float<__nv_bfloat16>(value / total.sum);
    if (threadIdx.x == 0 && params_.lse != nullptr) {
      params_.lse[index] = natural_log(total);
    }
  }

  const DecodeKernelParams& params_;
  const DecodeUnit& unit_;
  Shared& shared_;
  const DecodeRowMap map_;
  const DecodePartials partials_;
};

}  // namespace retrosparse::kernels::sm90
