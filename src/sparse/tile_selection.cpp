#include "sparse/tile_selection.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace retrosparse {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

// Scores at a time: a query tile's rows are taken in as many steps as that takes. As in SparseAttention, the CPU wants
// few of them.
int64_t scores_per_block(const at::Tensor& index_queries) {
  return int64_t{1} << (index_queries.is_cpu() ? 20 : 24);
}

int64_t tiles_of(int64_t num_keys) {
  return (std::max<int64_t>(num_keys, 0) + kKeyTile - 1) / kKeyTile;
}

// Hides sinks and keys in the window. scores [R, rows, far_end] of queries at positions from first_row on, of which the
// last has all keys before far_end beyond its window.
void hide_near_keys(const at::Tensor& scores, LocalWindow local, int64_t first_row) {
  const int64_t far_end = scores.size(-1);
  scores.narrow(-1, 0, std::min(local.sink_tokens, far_end)).fill_(kMinusInfinity);
  const int64_t edge = std::max<int64_t>(first_row - local.window + 1, 0);  // before it, keys are far for every row
  const at::TensorOptions positions = scores.options().dtype(at::kLong);
  const at::Tensor key = at::arange(edge, far_end, positions).unsqueeze(0);
  const at::Tensor query = at::arange(first_row, first_row + scores.size(1), positions).unsqueeze(1);
  scores.narrow(-1, edge, far_end - edge).masked_fill_(key.gt(query - local.window), kMinusInfinity);
}

}  // namespace

int64_t far_tiles(int64_t first_position, int64_t num_queries, LocalWindow local) {
  const int64_t end = first_position + num_queries;
  int64_t tiles = 0;
  for (int64_t row = first_position; row < end; row = (row / kQueryTile + 1) * kQueryTile) {
    const int64_t far_end = std::min((row / kQueryTile + 1) * kQueryTile, end) - local.window;
    tiles += far_end <= local.sink_tokens ? 0 : tiles_of(far_end) - local.sink_tokens / kKeyTile;
  }
  return tiles;
}

void for_each_row_block(const LayerIndexer& layer, const TileSelectionInput& input, LocalWindow local,
                        const std::function<void(const RowBlock&)>& visit) {
  const int64_t num_heads = input.index_queries.size(0), num_keys = input.index_keys.size(1);
  const int64_t first = num_keys - input.index_queries.size(1);
  const int64_t block =
      std::clamp<int64_t>(scores_per_block(input.index_queries) / (num_heads * num_keys), 1, kQueryTile);
  for (int64_t row = first, rows = 0; row < num_keys; row += rows) {
    const int64_t tile_end = std::min((row / kQueryTile + 1) * kQueryTile, num_keys);
    rows = std::min(block, tile_end - row);
    const int64_t far_end = row + rows - local.window;
    if (far_end <= local.sink_tokens) {
      continue;
    }
    const at::Tensor scores =
        layer.scores(input.index_queries.narrow(1, row - first, rows), input.index_keys.narrow(1, 0, far_end));
    hide_near_keys(scores, local, row);
    visit({row - first, rows, row / kQueryTile - first / kQueryTile, scores});
  }
}

SelectedTiles select_tiles(const LayerIndexer& layer, const TileSelectionInput& input, LocalWindow local,
                           double tile_share) {
  const int64_t num_heads = input.index_queries.size(0), num_queries = input.index_queries.size(1);
  const int64_t num_keys = input.index_keys.size(1);
  SelectedTiles tiles;
  tiles.first_position = num_keys - num_queries;
  const int64_t first_tile = tiles.first_position / kQueryTile;
  at::Tensor selected =
      at::zeros({num_heads, (num_keys - 1) / kQueryTile - first_tile + 1, tiles_of(num_keys - local.window)},
                input.index_queries.options().dtype(at::kBool));
  for_each_row_block(layer, input, local, [&](const RowBlock& rows) {
    const at::Tensor lse_rest = (input.lse_local - input.gate).narrow(1, rows.first_query, rows.num_queries);
    const at::Tensor threshold = at::logaddexp(rows.scores.logsumexp(-1), lse_rest) + std::log(tile_share);
    const int64_t far_end = rows.scores.size(-1), num_tiles = tiles_of(far_end);
    const at::Tensor best = at::constant_pad_nd(rows.scores, {0, num_tiles * kKeyTile - far_end}, kMinusInfinity)
                                .unflatten(-1, {num_tiles, kKeyTile})
                                .amax(-1);  // [R, rows, tiles]
    selected.select(1, rows.query_tile).narrow(-1, 0, num_tiles).logical_or_(best.gt(threshold.unsqueeze(-1)).any(1));
  });
  tiles.selected = selected.cpu();
  tiles.counts.far = num_heads * far_tiles(tiles.first_position, num_queries, local);
  tiles.counts.computed = tiles.selected.sum().item<int64_t>();
  return tiles;
}

}  // namespace retrosparse
