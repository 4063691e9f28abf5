#include "sparse/tile_selection.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "base/numeric.h"

namespace retrosparse {
namespace {

int64_t tiles_of(int64_t num_keys) {
  return (std::max<int64_t>(num_keys, 0) + kKeyTile - 1) / kKeyTile;
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

SelectedTiles select_tiles(const LayerIndexer& layer, const TileSelectionInput& input, LocalWindow local,
                           const std::vector<double>& tile_shares) {
  const int64_t num_heads = input.index_queries.size(0), num_queries = input.index_queries.size(1);
  const int64_t num_keys = input.index_keys.size(1);
  SelectedTiles tiles;
  tiles.first_position = num_keys - num_queries;
  const int64_t first_tile = tiles.first_position / kQueryTile;
  at::Tensor selected =
      at::zeros({num_heads, (num_keys - 1) / kQueryTile - first_tile + 1, tiles_of(num_keys - local.window)},
                input.index_queries.options().dtype(at::kBool));
  const at::Tensor lse_rest = input.lse_local - input.gate;
  const at::Tensor log_share =
      at::tensor(tile_shares, at::kFloat).log_().unsqueeze(1).to(input.index_queries.device());  // [R, 1]
  for_each_row_block(layer, input.index_queries, input.index_keys, local, [&](const RowBlock& rows) {
    const at::Tensor lse_far = rows.scores.logsumexp(-1);
    const at::Tensor threshold =
        at::logaddexp(lse_far, lse_rest.narrow(1, rows.first_query, rows.num_queries)) + log_share;
    const int64_t far_end = rows.scores.size(-1), num_tiles = tiles_of(far_end);
    const at::Tensor best = at::constant_pad_nd(rows.scores, {0, num_tiles * kKeyTile - far_end}, kMinusInfinity)
                                .unflatten(-1, {num_tiles, kKeyTile})
                                .amax(-1);  // [R, rows, tiles]
    selected.select(1, rows.query_tile).narrow(-1, 0, num_tiles).logical_or_(best.gt(threshold.unsqueeze(-1)).any(1));
  });
  tiles.selected = selected;
  tiles.counts.far = num_heads * far_tiles(tiles.first_position, num_queries, local);
  tiles.counts.computed = tiles.selected.sum().item<int64_t>();
  return tiles;
}

}  // namespace retrosparse
