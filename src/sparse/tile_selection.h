#pragma once
#include <ATen/core/Tensor.h>
#include <retrosparse_kernels/prefill_attention.h>

#include <cstdint>
#include <vector>

#include "model/planned_attention.h"
#include "sparse/far_scores.h"
#include "sparse/indexer.h"

namespace retrosparse {

/// Keys of a tile, counted from the sequence's first token; of queries a tile has kQueryTile.
inline constexpr int64_t kKeyTile = kernels::kPrefillKeyTile;

/// How many of the tiles with a far key were computed, over query tiles and retrieval heads.
struct TileCounts {
  int64_t computed = 0;
  int64_t far = 0;
  void add(const TileCounts& other) {
    computed += other.computed;
    far += other.far;
  }
  double density() const { return far == 0 ? 0 : static_cast<double>(computed) / static_cast<double>(far); }
};

/// Key tiles with a far key, over the query tiles of `num_queries` queries from `first_position` on: what a head that
/// selects none of them saves.
int64_t far_tiles(int64_t first_position, int64_t num_queries, LocalWindow local);

/// What the choice for n queries is made from; S keys, the last of them the last query's own, R heads.
struct TileSelectionInput {
  at::Tensor index_queries;  ///< float32 [R, n, r]: LayerIndexer::queries
  at::Tensor index_keys;     ///< float32 [Kr, S, r]: LayerIndexer::keys
  at::Tensor lse_local;      ///< float32 [R, n]: exact, over sinks and window
  at::Tensor gate;           ///< float32 [R, n]: LayerIndexer::gate
};

/// The key tiles that each head computes for each query tile.
struct SelectedTiles {
  int64_t first_position = 0;  ///< of the queries
  at::Tensor selected;         ///< bool [R, query tiles, key tiles or more]; query tiles from the first query's on
  TileCounts counts;
};

/// Selects a tile for a query tile if one of its queries m has a far key n (sink_tokens <= n <= m - window) in it with
///   score - LSE_far(scores) + log(m_far) > log(tile_share of the head),  m_far = sigmoid(LSE_far(scores) + gate -
///   LSE_local):
/// one that is expected to hold more than tile_share of the query's whole attention. This is the rule of
/// retrosparse_kernels/tile_selection.h, with LSE_far always over all far keys. Queries that belong to a query tile but
/// were computed earlier have no say any more, so a prompt has one result in all chunks that are multiples of
/// kQueryTile. Memory linear in S.
SelectedTiles select_tiles(const LayerIndexer& layer, const TileSelectionInput& input, LocalWindow local,
                           const std::vector<double>& tile_shares);

}  // namespace retrosparse
