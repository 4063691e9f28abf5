#pragma once
#include <ATen/core/Tensor.h>

#include "ops/prefill_attention.h"

namespace retrosparse::ops {

struct TileSelectionInput {
  at::Tensor queries;    ///< float16 [queries, R, 16]: index queries of the kSelected heads, ascending
  at::Tensor keys;       ///< float16 [K_r, keys, 16]: index keys of the KV groups that hold one of them
  at::Tensor gates;      ///< float32 [R, queries]
  at::Tensor lse_local;  ///< float32 [num_heads, queries]: of prefill_resident()
};

/// The key tiles that a prefill's kSelected heads compute: int32 [R, query tiles, words] for prefill_selected(), by the
/// rule of <retrosparse_kernels/tile_selection.h> with one tile share per kSelected head. The CPU runs the float64
/// reference. Throws std::invalid_argument if the arguments do not fit together.
at::Tensor select_tiles(const TileSelectionInput& input, const PrefillInput& attention, const AttentionPlan& plan,
                        const std::vector<float>& tile_shares);

}  // namespace retrosparse::ops
