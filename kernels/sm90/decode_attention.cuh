#pragma once
// One thread block of a decode launch: attention of 16 rows over one run of keys (see decode_plan.h). Every warp works
// through its own slices of 16 keys, which it copies ahead into its own ring, so that the main loop has no block
// barrier.
#include "sm90/decode_unit.cuh"
#include "sm90/mma.cuh"
#include "sm90/numeric.cuh"
#include "sm90/wgmma.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kSliceStages = 3;

/// Reference and sum of a set of weights 2^(exponent - reference).
struct WeightSum {
  float reference = -INFINITY;
  float sum = 0;
};

template <int kHeadDim>
struct alignas(16) DecodeSharedMemory {
  using Slice = __nv_bfloat16[kSliceKeys][kHeadDim];  ///< 16-byte chunk c of key n lies at chunk c ^ n % 8
  union {
    struct {
      Slice k[kDecodeWarps][kSliceStages];
      Slice v[kDecodeWarps][kSliceStages];
    };
    struct {
      float output[kDecodeWarps][kDecodeRows][kHeadDim];
      WeightSum sums[kDecodeWarps][kDecodeRows];
    };
  };
};

/// Attention of the unit's rows over the unit's keys, by the whole block; the four warps' shares end up in
/// shared.output and shared.sums.
template <int kHeadDim>
class DecodeAttention {
 public:
  using Shared = DecodeSharedMemory<kHeadDim>;

  /// Touches nothing that a selection leaves.
  __device__ DecodeAttention(const DecodeKernelParams& params, const DecodeUnit& unit, Shared& shared)
      : params_(params),
        unit_(unit),
        shared_(shared),
        warp_(threadIdx.x / 32),
        lane_(threadIdx.x % 32),
        key_count_(params.key_counts[unit.sequence]),
        end_(unit.range.end),
        resident_(key_count_, params.query_tokens, params.window, params.sink_tokens) {
    const int64_t group_offset = unit.group * params.cache.head_stride;
    const bool paged = params.cache.page_table != nullptr;
    const int64_t offset = group_offset + (paged ? 0 : unit.sequence * params.cache.sequence_stride);
    k_ = static_cast<const __nv_bfloat16*>(params.cache.k) + offset;
    v_ = static_cast<const __nv_bfloat16*>(params.cache.v) + offset;
    pages_ = paged ? params.cache.page_table + unit.sequence * params.cache.page_table_stride : nullptr;
    page_shift_ = paged ? 31 - __clz(params.cache.page_size) : 0;
    if (unit.kind == DecodeUnit::Kind::kSelected) {
      selected_list_ = DecodeRowMap(params, unit).selected_list(unit.own_row);
    }
    load_queries();
    find_bounds();
  }

  __device__ void run() {
    if (unit_.kind == DecodeUnit::Kind::kSelected) {
      end_ = min(params_.selected_counts[selected_list_], params_.max_selected);
    }
    int64_t offsets[kSliceStages];  // looked up together: a table or a list may lie behind each
#pragma unroll
    for (int i = 0; i < kSliceStages; ++i) {
      offsets[i] = slice_offset(i);
    }
#pragma unroll 1  // runs once: more instructions would take longer to fetch
    for (int i = 0; i < kSliceStages; ++i) {
      copy_slice(i, offsets[0]);
#pragma unroll
      for (int next = 1; next < kSliceStages; ++next) {
        offsets[next - 1] = offsets[next];
      }
    }
    int64_t next_offset = slice_offset(kSliceStages);
    int32_t stage = 0;
    for (int32_t i = 0; first_index(i) < end_; ++i) {
      copy_async_wait<kSliceStages - 1>();
      __syncwarp();
      attend(stage, first_index(i));
      __syncwarp();
      copy_slice(stage, next_offset);
      next_offset = slice_offset(i + 1 + kSliceStages);
      stage = stage + 1 == kSliceStages ? 0 : stage + 1;
    }
    copy_async_wait<0>();
    __syncthreads();  // the ring becomes the warps' results
    leave_results();
    __syncthreads();
  }

 private:
  static constexpr int kChunks = kHeadDim / 8;  // of 16 bytes in a row
  static constexpr int kRowsPerAccess = 32 / kChunks;

  __device__ int32_t first_index(int32_t own_slice) const {
    return unit_.range.begin + own_slice * unit_.step + warp_ * kSliceKeys;
  }

  /// Offset of key index `index` of this unit from k_ and v_.
  __device__ int64_t key_offset(int32_t index) const {
    int32_t key = index;
    if (unit_.kind == DecodeUnit::Kind::kWindow) {
      key = resident_.key(index);
    } else if (unit_.kind == DecodeUnit::Kind::kFar) {
      key = resident_.sinks + index;
    } else {
      const int32_t* selected = params_.selected + selected_list_ * params_.max_selected;
      key = min(max(selected[index], 0), key_count_ - 1);  // whatever was selected, reads stay inside
    }
    if (pages_ == nullptr) {
      return key * params_.cache.token_stride;
    }
    const int32_t in_page = key & (params_.cache.page_size - 1);
    return pages_[key >> page_shift_] * params_.cache.sequence_stride + in_page * params_.cache.token_stride;
  }

  __device__ static uint32_t chunk_address(const typename Shared::Slice& slice, int32_t key, int32_t chunk) {
    return shared_address(slice[key]) + ((chunk ^ (key % 8)) * 16);
  }

  /// Offset of this lane's key of the warp's slice number `own_slice`, -1 past the end.
  __device__ int64_t slice_offset(int32_t own_slice) const {
    const int32_t index = first_index(own_slice) + lane_ % kSliceKeys;
    const int64_t offset = index < unit_.range.end ? key_offset(index) : -1;  // a list is read before its length
    return index < end_ ? offset : -1;
  }

  /// Starts the copy of the slice whose keys lie at the lanes' offsets.
  __device__ void copy_slice(int32_t stage, int64_t offset) {
    if (__any_sync(0xffffffffu, offset >= 0)) {
      auto& k = shared_.k[warp_][stage];
      auto& v = shared_.v[warp_][stage];
#pragma unroll
      for (int i = 0; i < kSliceKeys / kRowsPerAccess; ++i) {
        const int32_t key = i * kRowsPerAccess + lane_ / kChunks;
        const int64_t row = __shfl_sync(0xffffffffu, offset, key);
        const int64_t element = (row < 0 ? 0 : row) + lane_ % kChunks * 8;
        copy_async(chunk_address(k, key, lane_ % kChunks), k_ + element, row >= 0);
        copy_async(chunk_address(v, key, lane_ % kChunks), v_ + element, row >= 0);
      }
    }
    copy_async_commit();  // an empty group keeps the count
  }

  /// The rows' queries as A operands.
  __device__ void load_queries() {
    const DecodeRowMap map(params_, unit_);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int32_t row = lane_ / 4 + 8 * half;
      const bool wanted = row < unit_.rows && (unit_.own_row < 0 || row == unit_.own_row);
      const auto* q = reinterpret_cast<const uint32_t*>(params_.q + (wanted ? map.index(row) * kHeadDim : 0));
#pragma unroll
      for (int i = 0; i < kHeadDim / 16; ++i) {
        queries_[i][half] = wanted ? q[i * 8 + lane_ % 4] : 0;
        queries_[i][half + 2] = wanted ? q[i * 8 + 4 + lane_ % 4] : 0;
      }
    }
  }

  /// Position and window of the thread's two rows.
  __device__ void find_bounds() {
    const DecodeRowMap map(params_, unit_);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int32_t row = min(lane_ / 4 + 8 * half, unit_.rows - 1);
      position_[half] = key_count_ - params_.query_tokens + map.token(row);
      const bool dense = (unit_.dense_rows >> row & 1u) != 0;
      first_visible_[half] = dense ? 0 : position_[half] - params_.window + 1;
    }
  }

  __device__ void attend(int32_t stage, int32_t first) {
    const auto& k = shared_.k[warp_][stage];
    const auto& v = shared_.v[warp_][stage];
    float scores[2][4] = {};  // of keys 0-7 and 8-15
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i) {
      uint32_t b[4];
      load_matrices(b, chunk_address(k, lane_ / 16 * 8 + lane_ % 8, 2 * i + lane_ / 8 % 2));
      multiply_accumulate(scores[0], queries_[i], b[0], b[1]);
      multiply_accumulate(scores[1], queries_[i], b[2], b[3]);
    }
    mask(scores, first);
    float factor[2];
    update_sums(scores, factor);
    if (__any_sync(0xffffffffu, factor[0] != 1.0f || factor[1] != 1.0f)) {
#pragma unroll
      for (int i = 0; i < kHeadDim / 8; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          output_[i][j] *= factor[j / 2];
        }
      }
    }
    const uint32_t weights[4] = {pack_bf16(scores[0][0], scores[0][1]), pack_bf16(scores[0][2], scores[0][3]),
                                 pack_bf16(scores[1][0], scores[1][1]), pack_bf16(scores[1][2], scores[1][3])};
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i) {
      uint32_t b[4];
      load_matrices_transposed(b, chunk_address(v, lane_ % 16, 2 * i + lane_ / 16));
      multiply_accumulate(output_[2 * i], weights, b[0], b[1]);
      multiply_accumulate(output_[2 * i + 1], weights, b[2], b[3]);
    }
  }

  __device__ void mask(float (&scores)[2][4], int32_t first) const {
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int32_t index = first + 8 * tile + lane_ % 4 * 2 + j % 2;
        bool visible = index < end_;
        if (unit_.kind == DecodeUnit::Kind::kWindow) {
          const int32_t key = resident_.key(index);
          visible = visible && key <= position_[j / 2] && (key >= first_visible_[j / 2] || key < params_.sink_tokens);
        }
        scores[tile][j] = visible ? scores[tile][j] * params_.scale_log2 : -INFINITY;
      }
    }
  }

  /// Scores to weights; factor takes what was accumulated before to the new reference.
  __device__ void update_sums(float (&scores)[2][4], float (&factor)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float& a = scores[0][2 * half];
      float& b = scores[0][2 * half + 1];
      float& c = scores[1][2 * half];
      float& d = scores[1][2 * half + 1];
      float maximum = fmaxf(fmaxf(a, b), fmaxf(c, d));
      maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
      maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
      const float reference = fmaxf(sums_[half].reference, maximum);
      const float finite = reference == -INFINITY ? 0.0f : reference;
      factor[half] = exp2_approximate(sums_[half].reference - finite);
      sums_[half].reference = reference;
      a = exp2_approximate(a - finite);
      b = exp2_approximate(b - finite);
      c = exp2_approximate(c - finite);
      d = exp2_approximate(d - finite);
      sums_[half].sum = sums_[half].sum * factor[half] + ((a + b) + (c + d));
    }
  }

  __device__ void leave_results() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int32_t row = lane_ / 4 + 8 * half;
      const float sum = lane_sum<4>(sums_[half].sum);
      if (lane_ % 4 == 0) {
        shared_.sums[warp_][row] = {sums_[half].reference, sum};
      }
#pragma unroll
      for (int i = 0; i < kHeadDim / 8; ++i) {
        float2 pair = make_float2(output_[i][2 * half], output_[i][2 * half + 1]);
        reinterpret_cast<float2*>(shared_.output[warp_][row])[i * 4 + lane_ % 4] = pair;
      }
    }
  }

  const DecodeKernelParams& params_;
  const DecodeUnit& unit_;
  Shared& shared_;
  const int32_t warp_, lane_;
  const int32_t key_count_;
  int32_t end_;  ///< of the unit's indices; of a selected unit known in run()
  const ResidentKeys resident_;
  const __nv_bfloat16* k_;
  const __nv_bfloat16* v_;
  const int32_t* pages_;
  int64_t selected_list_ = 0;
  int32_t page_shift_;
  uint32_t queries_[kHeadDim / 16][4];
  float output_[kHeadDim / 8][4] = {};
  WeightSum sums_[2];
  int32_t position_[2];
  int32_t first_visible_[2];
};

}  // namespace retrosparse::kernels::sm90
