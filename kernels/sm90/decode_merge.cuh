#pragma once
// From the warps' shares to the output: a block sums up its warps, leaves the result for the pair, and the last blocks
// of the pair to start merge its rows by their log-sum-exps.
#include "sm90/decode_attention.cuh"

namespace retrosparse::kernels::sm90 {

// What the blocks leave for each other lies in memory that is zero before and after the launch: a word of zero bits has
// not been written yet, so that the values themselves say when they are there, without flags and fences.
__device__ inline float written(float value) {
  return value == 0 ? -0.0f : value;
}
__device__ inline float4 written(const float4& value) {
  return make_float4(written(value.x), written(value.y), written(value.z), written(value.w));
}
__device__ inline bool is_written(float word) {
  return __float_as_uint(word) != 0;
}
__device__ inline bool is_written(const float2& words) {
  return is_written(words.x) && is_written(words.y);
}
__device__ inline bool is_written(const float4& words) {
  return is_written(words.x) && is_written(words.y) && is_written(words.z) && is_written(words.w);
}

/// Blocks start in the order of their index, so that a block may wait for lower ones, which run already, and for the
/// few higher ones of its pair: they only need room, and at most 15 blocks of the pair wait.
template <int kHeadDim>
class DecodeMerge {
 public:
  using Shared = DecodeSharedMemory<kHeadDim>;

  __device__ DecodeMerge(const DecodeKernelParams& params, const DecodeUnit& unit, Shared& shared)
      : params_(params),
        unit_(unit),
        shared_(shared),
        map_(params, unit),
        partials_(params.partials + static_cast<int64_t>(unit.pair) * params.plan.partial_rows() * kHeadDim),
        partial_sums_(params.partial_sums + static_cast<int64_t>(unit.pair) * params.plan.partial_rows()) {}

  __device__ void run() {
    publish();
    // Row i of those that the launch finishes falls to live unit `live - 1 - i % mergers`.
    const uint32_t all_rows = (1u << unit_.rows) - 1;
    uint32_t finished = params_.part == DecodePart::kSelected ? unit_.selected_rows : all_rows;
    const int32_t mergers = min(unit_.live, __popc(finished));
    const int32_t merger = unit_.live - 1 - unit_.index;
    if (merger >= mergers) {
      return;
    }
    __syncthreads();  // the warps' shares have been read
    for (int32_t i = 0; finished != 0; ++i, finished &= finished - 1) {
      if (i % mergers == merger) {
        merge(__ffs(finished) - 1);
      }
    }
  }

 private:
  /// Sums up the warps for the rows of this unit.
  __device__ void publish() {
    const bool one_row = unit_.own_row >= 0;
    const int32_t rows = one_row ? 1 : unit_.rows;
    const int32_t base = one_row ? kDecodeRows * (params_.plan.window_splits + params_.plan.far_splits) +
                                       static_cast<int32_t>(blockIdx.x) - params_.plan.window_splits -
                                       params_.plan.far_splits
                                 : kDecodeRows * static_cast<int32_t>(blockIdx.x);
    constexpr int kVectors = kHeadDim / 4;
    for (int32_t i = threadIdx.x; i < rows * kVectors; i += kDecodeThreads) {
      const int32_t row = one_row ? unit_.own_row : i / kVectors;
      const int32_t column = i % kVectors;
      if (unit_.kind == DecodeUnit::Kind::kFar && (unit_.dense_rows >> row & 1u) == 0) {
        continue;  // nobody would read it
      }
      WeightSum total;
      float4 output = make_float4(0, 0, 0, 0);
#pragma unroll
      for (int warp = 0; warp < kDecodeWarps; ++warp) {
        add(total, output, shared_.sums[warp][row], reinterpret_cast<const float4*>(shared_.output[warp][row])[column]);
      }
      const int32_t slot = base + (one_row ? 0 : row);
      store_relaxed(partial(slot, column), written(output));
      if (column == 0) {
        store_relaxed(partial_sums_ + slot, make_float2(written(total.reference), written(total.sum)));
      }
    }
  }

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

    const int64_t index = map_.index(row);
    WeightSum previous;
    float previous_value = 0;
    if (params_.part == DecodePart::kSelected && threadIdx.x < kHeadDim) {
      previous = {params_.lse[index] * kLog2E, 1};
      previous_value = params_.o_float[index * kHeadDim + threadIdx.x];
    }

    constexpr int kVectors = kHeadDim / 4;
    constexpr int kAtOnce = 32 / kVectors;  // partial results that a warp reads side by side: 1 or 2
    constexpr int kBatch = 9;  // of each warp: what the 132 blocks of an H200 leave for four pairs, in one go
    const int32_t lane = threadIdx.x % 32;
    const int32_t warp = threadIdx.x / 32;
    constexpr int32_t kStride = kDecodeWarps * kAtOnce;
    WeightSum total;
    float4 output = make_float4(0, 0, 0, 0);
    for (int32_t first = warp * kAtOnce; first < slots; first += kBatch * kStride) {
      const int32_t own = first + lane / kVectors;
      float2 sums[kBatch] = {};
      float4 values[kBatch] = {};
      bool missing = true;
      while (missing) {
        missing = false;
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
          const int32_t number = own + i * kStride;
          if (number >= slots) {
            sums[i].x = -INFINITY;
          } else if (!is_written(sums[i]) || !is_written(values[i])) {
            sums[i] = load_relaxed(partial_sums_ + slot(number));
            values[i] = load_relaxed(partial(slot(number), lane));
            missing = true;
          }
        }
      }
      __syncwarp();  // all lanes have read the sums
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int32_t number = own + i * kStride;
        if (number < slots) {
          *partial(slot(number), lane) = make_float4(0, 0, 0, 0);
          if (lane % kVectors == 0) {
            partial_sums_[slot(number)] = make_float2(0, 0);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        add(total, output, {sums[i].x, sums[i].y}, values[i]);
      }
    }
    if constexpr (kAtOnce == 2) {
      const WeightSum other = {__shfl_xor_sync(0xffffffffu, total.reference, 16),
                               __shfl_xor_sync(0xffffffffu, total.sum, 16)};
      const float4 values =
          make_float4(__shfl_xor_sync(0xffffffffu, output.x, 16), __shfl_xor_sync(0xffffffffu, output.y, 16),
                      __shfl_xor_sync(0xffffffffu, output.z, 16), __shfl_xor_sync(0xffffffffu, output.w, 16));
      add(total, output, other, values);
    }
    if (lane < kVectors) {
      reinterpret_cast<float4*>(shared_.output[warp][0])[lane] = output;
    }
    if (lane == 0) {
      shared_.sums[warp][0] = total;
    }
    __syncthreads();
    if (threadIdx.x < kHeadDim) {
      write(index, is_selected, previous, previous_value);
    }
    __syncthreads();  // shared memory is free for the next row
  }

  /// The lane's four columns of a partial result.
  __device__ float4* partial(int32_t slot, int32_t lane) const {
    return reinterpret_cast<float4*>(partials_ + static_cast<int64_t>(slot) * kHeadDim) + lane % (kHeadDim / 4);
  }

  /// Sums up the warps and what kResident left, and writes one column of a row.
  __device__ void write(int64_t index, bool is_selected, const WeightSum& previous, float previous_value) {
    WeightSum total = previous;
    float value = previous_value;
#pragma unroll
    for (int warp = 0; warp < kDecodeWarps; ++warp) {
      add(total, value, shared_.sums[warp][0], shared_.output[warp][0][threadIdx.x]);
    }
    value /= total.sum;
    const int64_t element = index * kHeadDim + threadIdx.x;
    if (params_.part == DecodePart::kResident && is_selected) {
      params_.o_float[element] = value;
    } else {
      params_.o[element] = from_float<__nv_bfloat16>(value);
    }
    if (threadIdx.x == 0 && params_.lse != nullptr) {
      params_.lse[index] = (total.reference + log2f(total.sum)) * kLn2;
    }
  }

  /// 2^(reference - larger), also for the reference of an empty set.
  __device__ static float factor_of(float reference, float larger) {
    return reference == -INFINITY ? 0.0f : exp2_approximate(reference - larger);
  }

  /// Adds a partial result (weights and weighted values) to another.
  template <class Values>
  __device__ static void add(WeightSum& total, Values& values, const WeightSum& share, const Values& share_values) {
    const float reference = fmaxf(total.reference, share.reference);
    const float keep = factor_of(total.reference, reference);
    const float take = factor_of(share.reference, reference);
    total.reference = reference;
    total.sum = keep * total.sum + take * share.sum;
    values = combine(keep, values, take, share_values);
  }
  __device__ static float combine(float a, float x, float b, float y) {
    return a * x + b * y;
  }
  __device__ static float4 combine(float a, const float4& x, float b, const float4& y) {
    return make_float4(combine(a, x.x, b, y.x), combine(a, x.y, b, y.y), combine(a, x.z, b, y.z),
                       combine(a, x.w, b, y.w));
  }

  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLn2 = 0.69314718f;
  const DecodeKernelParams& params_;
  const DecodeUnit& unit_;
  Shared& shared_;
  const DecodeRowMap map_;
  float* partials_;
  float2* partial_sums_;
};

}  // namespace retrosparse::kernels::sm90
