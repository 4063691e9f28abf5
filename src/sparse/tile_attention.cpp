#include "sparse/tile_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>

#include "sparse/tail_attention.h"

namespace retrosparse {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

// Positions of the keys before `end` in the tiles that are set in `selected` [key tiles].
at::Tensor positions_in(const at::Tensor& selected, int64_t end) {
  const at::Tensor tiles = selected.nonzero();  // [tiles, 1]
  const at::Tensor positions = (tiles * kKeyTile + at::arange(kKeyTile, tiles.options())).flatten();
  return positions.narrow(0, 0, positions.lt(end).sum().item<int64_t>());
}

}  // namespace

PartialAttention attend_tiles(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                              const at::Tensor& key_head, const SelectedTiles& tiles, LocalWindow local) {
  const int64_t num_queries = q.size(0), first = tiles.first_position;
  const at::TensorOptions floats = q.options().dtype(at::kFloat), integers = q.options().dtype(at::kLong);
  PartialAttention result{at::zeros(q.sizes(), q.options()),
                          at::full({num_queries, q.size(1)}, kMinusInfinity, floats)};
  const at::Tensor key_heads = key_head.cpu();
  for (int64_t tile = 0; tile < tiles.selected.size(1); ++tile) {
    const int64_t begin = std::max((first / kQueryTile + tile) * kQueryTile, first);
    const int64_t end = std::min((first / kQueryTile + tile + 1) * kQueryTile, first + num_queries);
    const at::Tensor query = at::arange(begin, end, integers).unsqueeze(1);
    for (int64_t head = 0; head < q.size(1); ++head) {
      const at::Tensor key = positions_in(tiles.selected[head][tile], end - local.window).to(q.device());
      if (key.numel() == 0) {
        continue;
      }
      const int64_t group = key_heads[head].item<int64_t>();
      const at::Tensor keys = k.select(1, group).index_select(0, key).to(at::kFloat);
      const at::Tensor values = v.select(1, group).index_select(0, key).to(at::kFloat);
      const at::Tensor queries = q.select(1, head).narrow(0, begin - first, end - begin).to(at::kFloat) * scale;
      const at::Tensor near = key.gt(query - local.window).logical_or_(key.lt(local.sink_tokens));
      const at::Tensor scores = at::mm(queries, keys.t()).masked_fill_(near, kMinusInfinity);
      const at::Tensor lse = scores.logsumexp(-1);
      const at::Tensor shares = (scores - lse.unsqueeze(-1)).exp_().nan_to_num_(0.0);  // NaN: a row without a far key
      result.out.select(1, head).narrow(0, begin - first, end - begin).copy_(at::mm(shares, values));
      result.lse.select(1, head).narrow(0, begin - first, end - begin).copy_(lse);
    }
  }
  return result;
}

PartialAttention attend_tail_of_tiles(const LayerIndexer& layer, const TileSelectionInput& input,
                                      const SelectedTiles& tiles, LocalWindow local, const at::Tensor& means,
                                      int64_t tail_block) {
  const int64_t num_heads = input.index_queries.size(0), num_queries = input.index_queries.size(1);
  const at::TensorOptions floats = input.index_queries.options();
  PartialAttention result{at::zeros({num_queries, num_heads, means.size(2)}, floats),
                          at::full({num_queries, num_heads}, kMinusInfinity, floats)};
  const at::Tensor selected = tiles.selected.to(floats.device());
  for_each_row_block(layer, input, local, [&](const RowBlock& rows) {
    const int64_t far_end = rows.scores.size(-1);
    const at::Tensor computed =
        selected.select(1, rows.query_tile).repeat_interleave(kKeyTile, -1).narrow(-1, 0, far_end).unsqueeze(1);
    const int64_t num_blocks = (far_end - local.sink_tokens + tail_block - 1) / tail_block;
    const TailShares shares = tail_shares(rows.scores.masked_fill(computed, kMinusInfinity),
                                          input.gate.narrow(1, rows.first_query, rows.num_queries), num_blocks,
                                          local.sink_tokens, tail_block);
    const PartialAttention tail = attend_tail(shares, means.narrow(1, 0, num_blocks), layer.group_of_head);
    result.out.narrow(0, rows.first_query, rows.num_queries).copy_(tail.out);
    result.lse.narrow(0, rows.first_query, rows.num_queries).copy_(tail.lse);
  });
  return result;
}

}  // namespace retrosparse
