#include "sparse/far_scores.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>

#include <algorithm>

#include "base/numeric.h"

namespace retrosparse {
namespace {

// Hides sinks and keys in the window. scores [R, rows, far_end] of queries at positions from first_row on, of which the
// last has all keys before far_end beyond its window.
void hide_near_keys(const at::Tensor& scores, LocalWindow local, int64_t first_row) {
  const int64_t far_end = scores.size(-1);
  scores.narrow(-1, 0, std::min(local.sink_tokens, far_end)).fill_(kMinusInfinity);
  const int64_t edge = std::max<int64_t>(first_row - local.window + 1, 0);  // before it, keys are far for every row
  if (edge == far_end) {
    return;
  }
  const at::TensorOptions positions = scores.options().dtype(at::kLong);
  const at::Tensor key = at::arange(edge, far_end, positions).unsqueeze(0);
  const at::Tensor query = at::arange(first_row, first_row + scores.size(1), positions).unsqueeze(1);
  scores.narrow(-1, edge, far_end - edge).masked_fill_(key.gt(query - local.window), kMinusInfinity);
}

}  // namespace

int64_t rows_at_a_time(const at::Tensor& q, int64_t num_heads, int64_t num_keys) {
  const int64_t scores = int64_t{1} << (q.is_cpu() ? 20 : 24);
  return std::max<int64_t>(scores / std::max<int64_t>(num_heads * num_keys, 1), 1);
}

void for_each_row_block(const LayerIndexer& layer, const at::Tensor& index_queries, const at::Tensor& index_keys,
                        LocalWindow local, const std::function<void(const RowBlock&)>& visit) {
  const int64_t num_heads = index_queries.size(0), num_keys = index_keys.size(1);
  const int64_t first = num_keys - index_queries.size(1);
  const int64_t block = std::min(rows_at_a_time(index_queries, num_heads, num_keys), kQueryTile);
  for (int64_t row = first, rows = 0; row < num_keys; row += rows) {
    const int64_t tile_end = std::min((row / kQueryTile + 1) * kQueryTile, num_keys);
    rows = std::min(block, tile_end - row);
    const int64_t far_end = row + rows - local.window;
    if (far_end <= local.sink_tokens) {
      continue;
    }
    const at::Tensor scores =
        layer.scores(index_queries.narrow(1, row - first, rows), index_keys.narrow(1, 0, far_end));
    hide_near_keys(scores, local, row);
    visit({row - first, rows, row / kQueryTile - first / kQueryTile, scores});
  }
}

}  // namespace retrosparse
