#pragma once
#include <ATen/core/Tensor.h>

#include "model/attend.h"
#include "model/planned_attention.h"
#include "sparse/tile_selection.h"

namespace retrosparse {

/// Exact attention of n queries [n, R, D] over the far keys (sink_tokens <= key <= query - window) in their selected
/// tiles; k and v [S, K, D], the last key the last query's own; key_head int64 [R]: the key head that each query head
/// reads. A row without such keys has lse = -inf and out = 0. Memory linear in S.
PartialAttention attend_tiles(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                              const at::Tensor& key_head, const SelectedTiles& tiles, LocalWindow local);

/// Which far keys attend_tiles() reads for some rows: bool [R, 1, far_end].
at::Tensor computed_keys(const SelectedTiles& tiles, const RowBlock& rows);

}  // namespace retrosparse
