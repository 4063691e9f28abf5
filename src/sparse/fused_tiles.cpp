#include "sparse/fused_tiles.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <retrosparse_kernels/decode_selection.h>

#include "ops/prefill_attention.h"
#include "ops/tile_selection.h"
#include "sparse/attention_plan.h"
#include "sparse/tile_attention.h"

namespace retrosparse {
namespace {

constexpr int64_t kBits = 32;  // of a word

SelectedTiles select_by_kernel(const AttentionInput& input, const TailInput& index, const ops::PrefillInput& attention,
                               const ops::AttentionPlan& plan, LocalWindow local, const at::Tensor& lse,
                               const std::vector<double>& tile_shares, at::Tensor& packed) {
  const ops::TileSelectionInput selection{index.index_queries.transpose(0, 1).to(at::kHalf),
                                          index.index_keys.to(at::kHalf), index.gate, lse};
  packed = ops::select_tiles(selection, attention, plan, std::vector<float>(tile_shares.begin(), tile_shares.end()));
  SelectedTiles tiles{input.first_position, unpack_tiles(packed), {}};
  tiles.counts.computed = tiles.selected.sum().item<int64_t>();
  tiles.counts.far = packed.size(0) * far_tiles(input.first_position, input.q.size(0), local);
  return tiles;
}

}  // namespace

at::Tensor pack_tiles(const at::Tensor& selected, int64_t words) {
  const at::Tensor bits = at::constant_pad_nd(selected, {0, words * kBits - selected.size(-1)}, 0)
                              .unflatten(-1, {words, kBits})
                              .to(at::kLong);
  const at::Tensor sums = bits.bitwise_left_shift(at::arange(kBits, bits.options())).sum(-1, /*keepdim=*/true);
  return sums.view(at::kInt).select(-1, 0).contiguous();  // the low halves of 64 bits
}

at::Tensor unpack_tiles(const at::Tensor& packed) {
  const at::Tensor bit = at::arange(kBits, packed.options());
  return packed.unsqueeze(-1).bitwise_right_shift(bit).bitwise_and(1).to(at::kBool).flatten(-2);
}

bool serves_tiles(const AttentionInput& input, const LayerIndexer& layer) {
  return !layer.heads.empty() && input.first_position % kQueryTile == 0 && ops::serves_prefill(input.q);
}

at::Tensor attend_by_tiles(const AttentionInput& input, const LayerIndexer& layer, const TailInput& tail,
                           LocalWindow local, const std::vector<double>& tile_shares, TileCounts& counts) {
  const ops::AttentionPlan plan = attention_plan(input.q.size(1), layer, local);
  const ops::PrefillInput attention{input.q, input.k, input.v, input.scale, {}};
  ops::AttentionOutput output = ops::prefill_resident(attention, plan);
  SelectedTiles tiles;
  at::Tensor packed;
  if (tail.index_keys.size(-1) == kernels::kIndexDim) {
    tiles = select_by_kernel(input, tail, attention, plan, local, output.lse, tile_shares, packed);
  } else {
    const at::Tensor lse_local = output.lse.index_select(0, layer.head_index);
    tiles = select_tiles(layer, {tail.index_queries, tail.index_keys, lse_local, tail.gate}, local, tile_shares);
    const int64_t key_tiles = (input.k.size(0) + kKeyTile - 1) / kKeyTile;
    packed = pack_tiles(tiles.selected, (key_tiles + kBits - 1) / kBits);
  }
  counts.add(tiles.counts);
  ops::prefill_selected(attention, plan, packed, output);
  if (tail.block == 0 || tiles.counts.far == 0) {
    return output.o;
  }
  const PartialAttention exact{output.o.index_select(1, layer.head_index),
                               output.lse.index_select(0, layer.head_index).transpose(0, 1)};
  const PartialAttention rest =
      attend_tail(layer, tail, local, [&](const RowBlock& rows) { return computed_keys(tiles, rows); });
  return output.o.index_copy_(1, layer.head_index, merge(exact, rest).out.to(output.o.scalar_type()));
}

}  // namespace retrosparse
