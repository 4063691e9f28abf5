#pragma once
// What a decode launch gets, and what one of its thread blocks does with it (see decode_plan.h).
#include <cuda_bf16.h>

#include "sm90/decode_plan.h"

namespace retrosparse::kernels::sm90 {

inline constexpr int kDecodeWarps = 4;
inline constexpr int kDecodeThreads = 32 * kDecodeWarps;
inline constexpr int kSliceKeys = 16;
inline constexpr int kDecodeStep = kDecodeWarps * kSliceKeys;  ///< keys that a block takes at once

struct DecodeKernelParams {
  const __nv_bfloat16* q;
  __nv_bfloat16* o;
  float* o_float;
  float* lse;
  KeyValueCache cache;
  const int32_t* key_counts;
  const int32_t* selected;
  const int32_t* selected_counts;
  float2* partial_sums;  ///< [pairs][partial_rows]: exponent reference and sum of weights
  float* partials;       ///< [pairs][partial_rows][head_dim]: weighted sums of values
  int32_t query_tokens, num_heads, num_key_value_heads, num_selected_heads, max_selected;
  int32_t sink_tokens, window;
  float scale_log2;  ///< softmax_scale * log2(e)
  DecodePart part;
  bool follows_selection;
  DecodePlan plan;
  HeadMode head_modes[kDecodeMaxHeads];
  int16_t selected_index[kDecodeMaxHeads];  ///< rank of a kSelected head among those
};

/// What a block does: which rows, which keys.
struct DecodeUnit {
  enum class Kind { kWindow, kFar, kSelected };
  Kind kind;
  int32_t sequence, group, row_tile, pair;
  int32_t first_row, rows;  ///< of the tile, in the group
  uint32_t dense_rows;      ///< bit for bit, rows whose head is dense
  uint32_t selected_rows;   ///< rows whose head is kSelected
  int32_t own_row;          ///< in the tile, of a selected unit
  int32_t index;            ///< among the live units of the pair
  int32_t live;             ///< units of the pair that take part
  IndexRange range;         ///< of the kind's own key indices; of a selected unit from its first key to the last place
  int32_t step;             ///< in the range, from one key of a warp's slice to that of its next one
};

/// The query tokens and heads behind the rows of a tile.
class DecodeRowMap {
 public:
  __device__ DecodeRowMap(const DecodeKernelParams& params, const DecodeUnit& unit) : params_(params), unit_(unit) {}

  __device__ int32_t token(int32_t row) const { return (unit_.first_row + row) / params_.plan.heads_per_group; }
  __device__ int32_t head(int32_t row) const {
    return unit_.group * params_.plan.heads_per_group + (unit_.first_row + row) % params_.plan.heads_per_group;
  }
  /// Index of the row in q and o (times head_dim) and lse.
  __device__ int64_t index(int32_t row) const {
    return (static_cast<int64_t>(unit_.sequence) * params_.query_tokens + token(row)) * params_.num_heads + head(row);
  }
  /// Index of a kSelected row in selected_counts.
  __device__ int64_t selected_list(int32_t row) const {
    return (static_cast<int64_t>(unit_.sequence) * params_.query_tokens + token(row)) * params_.num_selected_heads +
           params_.selected_index[head(row)];
  }

 private:
  const DecodeKernelParams& params_;
  const DecodeUnit& unit_;
};

/// Position of the set bit of `bits` that `rank` others lie below.
__device__ inline int32_t nth_set_bit(uint32_t bits, int32_t rank) {
  for (; rank > 0; --rank) {
    bits &= bits - 1;
  }
  return __ffs(bits) - 1;
}

/// Finds out what this block does; false if nothing. By whole warps, all with the same answer.
__device__ inline bool find_unit(const DecodeKernelParams& params, DecodeUnit& unit) {
  const DecodePlan& plan = params.plan;
  unit.sequence = blockIdx.z;
  unit.group = blockIdx.y / plan.row_tiles;
  unit.row_tile = blockIdx.y % plan.row_tiles;
  unit.pair = blockIdx.z * gridDim.y + blockIdx.y;
  unit.first_row = unit.row_tile * kDecodeRows;
  unit.rows = min(kDecodeRows, plan.heads_per_group * params.query_tokens - unit.first_row);
  unit.own_row = -1;
  const int32_t key_count = params.key_counts[unit.sequence];

  const DecodeRowMap map(params, unit);
  const int32_t lane = threadIdx.x % 32;
  const HeadMode mode = lane < unit.rows ? params.head_modes[map.head(lane)] : HeadMode::kLocal;
  unit.dense_rows = __ballot_sync(0xffffffffu, mode == HeadMode::kDense);
  unit.selected_rows = __ballot_sync(0xffffffffu, mode == HeadMode::kSelected);
  const int32_t far_splits = unit.dense_rows != 0 ? plan.far_splits : 0;
  unit.live = plan.window_splits + far_splits + __popc(unit.selected_rows) * plan.selected_splits;

  const ResidentKeys resident(key_count, params.query_tokens, params.window, params.sink_tokens);
  int32_t x = blockIdx.x;
  if (x < plan.window_splits) {
    unit.kind = DecodeUnit::Kind::kWindow;
    unit.index = x;
    unit.step = kDecodeStep;
    unit.range = split_range(resident.count, plan.window_splits, x);
    return true;
  }
  x -= plan.window_splits;
  if (x < plan.far_splits) {
    unit.kind = DecodeUnit::Kind::kFar;
    unit.index = plan.window_splits + x;
    unit.step = kDecodeStep;
    unit.range = split_range(resident.far_count(), plan.far_splits, x);
    return unit.dense_rows != 0;
  }
  x -= plan.far_splits;
  const int32_t rank = x / plan.selected_splits;
  if (rank >= __popc(unit.selected_rows)) {
    return false;
  }
  unit.kind = DecodeUnit::Kind::kSelected;
  unit.index = plan.window_splits + far_splits + x;
  unit.own_row = nth_set_bit(unit.selected_rows, rank);
  // In turns, so that a unit's places in the list do not depend on how many are listed.
  unit.range = {x % plan.selected_splits * kDecodeStep, params.max_selected};
  unit.step = plan.selected_splits * kDecodeStep;
  return true;
}

}  // namespace retrosparse::kernels::sm90
