#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "model/attention.h"
#include "model/planned_attention.h"
#include "sparse/indexer.h"
#include "sparse/tile_selection.h"

namespace retrosparse {

/// Whether attend_by_tiles() can run: what ops::serves_prefill() wants, an index of 16 dimensions, and queries that
/// begin with a query tile.
bool serves_tiles(const AttentionInput& input, const LayerIndexer& layer);

/// A layer's prefill by tiles with the GPU's kernels: local heads see sinks and window, retrieval heads the tiles too
/// that select_tiles() would select, up to what the kernel approximates (<retrosparse_kernels/tile_selection.h>:
/// binary16 scores, and LSE_far from a sample where there are many far keys). index_keys float32 [Kr, S, r]; tile_shares [R]. Returns
/// [T, H, D] and adds to `counts`.
at::Tensor attend_by_tiles(const AttentionInput& input, const LayerIndexer& layer, const at::Tensor& index_keys,
                           LocalWindow local, const std::vector<double>& tile_shares, TileCounts& counts);

}  // namespace retrosparse
