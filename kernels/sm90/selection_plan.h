#pragma once
// How decode selection is cut into thread blocks, and where its parts of the workspace lie.
#include "sm90/selection_shared.cuh"

namespace retrosparse::kernels::sm90 {

struct SelectionPlan {
  int32_t groups;        ///< index groups
  int32_t rows_at_once;  ///< 1, 2, 4 or 8
  int32_t row_chunks;    ///< of a group's rows
  int32_t blocks;        ///< along the keys, that score
  int32_t segments;      ///< along the keys, that list candidates: a power of two
  int32_t cluster;       ///< blocks that pick and attend together
  int32_t tiles;         ///< of a row
  int64_t rows;

  size_t bytes() const;
};

/// Whether the params are valid and there is no row to select for.
bool has_nothing_to_do(const DecodeSelectionParams& params);

/// The plan for the current device. cudaErrorInvalidValue for params that cannot be right, but for their pointers.
cudaError_t make_selection_plan(const DecodeSelectionParams& params, SelectionPlan& plan);

/// The same with what the kernels get, and pointers checked.
cudaError_t prepare_selection(const DecodeSelectionParams& params, SelectionPlan& plan, SelectionKernelParams& kernel);

}  // namespace retrosparse::kernels::sm90
