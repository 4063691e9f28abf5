#pragma once
// From the params of decode selection to those of its kernels, for all launchers that have it as a part.
#include <cuda_runtime_api.h>

#include "sm90/selection_shared.cuh"

namespace retrosparse::kernels::sm90 {

bool has_valid_shape(const DecodeSelectionParams& params);
/// The arguments of the first launch, and where the second one writes; not `lse_local` and `workspace`.
bool is_valid(const DecodeSelectionParams& params);

/// Where a workspace holds what the first launch leaves for the second.
struct SelectionWorkspace {
  explicit SelectionWorkspace(const SelectionPlan& plan);
  size_t segments, candidates;  ///< offsets; the thresholds are at 0
  size_t bytes;
};

SelectionKernelParams make_kernel_params(const DecodeSelectionParams& params, const SelectionPlan& plan,
                                         void* workspace);

}  // namespace retrosparse::kernels::sm90
