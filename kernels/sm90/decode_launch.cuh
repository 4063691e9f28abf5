#pragma once
// From the params of decode attention to those of its kernels, for all launchers that have it as a part.
#include <cuda_runtime_api.h>

#include "sm90/decode_unit.cuh"

namespace retrosparse::kernels::sm90 {

bool has_valid_shape(const DecodeAttentionParams& params);
/// All but the selected keys and the workspace.
bool is_valid(const DecodeAttentionParams& params);

/// (sequence, group, row tile).
inline int64_t count_pairs(const DecodeAttentionParams& params, const DecodePlan& plan) {
  return int64_t{params.batch} * params.num_key_value_heads * plan.row_tiles;
}
/// Of the partial results of all pairs.
size_t partial_bytes(const DecodeAttentionParams& params, const DecodePlan& plan);

/// `partials` is where the partial results go; the counters are left out.
DecodeKernelParams make_kernel_params(const DecodeAttentionParams& params, const DecodePlan& plan, void* partials);

}  // namespace retrosparse::kernels::sm90
