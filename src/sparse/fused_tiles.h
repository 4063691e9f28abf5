#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "model/attention.h"
#include "model/planned_attention.h"
#include "sparse/indexer.h"
#include "sparse/tail_attention.h"
#include "sparse/tile_selection.h"

namespace retrosparse {

/// Whether attend_by_tiles() can run on kernels: what ops::serves_prefill() wants, and queries that begin with a query
/// tile.
bool serves_tiles(const AttentionInput& input, const LayerIndexer& layer);

/// A layer's prefill by tiles with the GPU's kernels: local heads see sinks and window, retrieval heads the tiles too
/// that select_tiles() selects with `tile_shares` [R]. `tail` holds what the index says of the queries, block 0 and no
/// means where there is no tail. Where the index has kernels::kIndexDim numbers a kernel selects, up to what it
/// approximates (<retrosparse_kernels/tile_selection.h>: binary16 scores, and LSE_far from a sample where there are
/// many far keys); otherwise, and for the tail, tensor code stands beside the kernels. Returns [T, H, D] and adds to
/// `counts`. On the CPU the kernels' references run.
at::Tensor attend_by_tiles(const AttentionInput& input, const LayerIndexer& layer, const TailInput& tail,
                           LocalWindow local, const std::vector<double>& tile_shares, TileCounts& counts);

/// As the kernels want it: bool [R, query tiles, key tiles] as bits of int32 [R, query tiles, `words`], key tile t bit
/// t % 32 of word t / 32.
at::Tensor pack_tiles(const at::Tensor& selected, int64_t words);
/// The reverse: bool [R, query tiles, 32 * words].
at::Tensor unpack_tiles(const at::Tensor& packed);

}  // namespace retrosparse
