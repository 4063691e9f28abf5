#include "sparse/tile_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "base/numeric.h"

namespace retrosparse {
namespace {

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
  const at::Tensor key_heads = key_head.cpu(), selected = tiles.selected.cpu();
  for (int64_t tile = 0; tile < selected.size(1); ++tile) {
    const int64_t begin = std::max((first / kQueryTile + tile) * kQueryTile, first);
    const int64_t end = std::min((first / kQueryTile + tile + 1) * kQueryTile, first + num_queries);
    const at::Tensor query = at::arange(begin, end, integers).unsqueeze(1);
    for (int64_t head = 0; head < q.size(1); ++head) {
      const at::Tensor key = positions_in(selected[head][tile], end - local.window).to(q.device());
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

at::Tensor computed_keys(const SelectedTiles& tiles, const RowBlock& rows) {
  return tiles.selected.select(1, rows.query_tile)
      .repeat_interleave(kKeyTile, -1)
      .narrow(-1, 0, rows.scores.size(-1))
      .unsqueeze(1);
}

}  // namespace retrosparse
