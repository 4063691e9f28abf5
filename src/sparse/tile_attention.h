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

/// What the index says of the far keys outside the selected tiles, with the means of their blocks as values (see
/// tail_attention.h): to be merged with attend_tiles. `tiles` is what select_tiles made of `input`; means float32
/// [Kr, blocks, D] of ValueMeans. out float32 [n, R, D]; a row with nothing left has lse = -inf and out = 0.
PartialAttention attend_tail_of_tiles(const LayerIndexer& layer, const TileSelectionInput& input,
                                      const SelectedTiles& tiles, LocalWindow local, const at::Tensor& means,
                                      int64_t tail_block);

}  // namespace retrosparse
