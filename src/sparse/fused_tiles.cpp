#include "sparse/fused_tiles.h"

#include <ATen/ops/tensor.h>
#include <retrosparse_kernels/decode_selection.h>

#include <bit>
#include <cstdint>
#include <vector>

#include "ops/prefill_attention.h"
#include "ops/tile_selection.h"
#include "sparse/attention_plan.h"

namespace retrosparse {
namespace {

// Bits set in a tensor of int32.
int64_t count_bits(const at::Tensor& words) {
  std::vector<int64_t> bits_of_byte;
  for (unsigned byte = 0; byte < 256; ++byte) {
    bits_of_byte.push_back(std::popcount(byte));
  }
  const at::Tensor table = at::tensor(bits_of_byte, at::kLong).to(words.device());
  return table.index_select(0, words.contiguous().view(at::kByte).flatten().to(at::kInt)).sum().item<int64_t>();
}

}  // namespace

bool serves_tiles(const AttentionInput& input, const LayerIndexer& layer) {
  return !layer.heads.empty() && layer.q_proj.size(1) == kernels::kIndexDim && input.first_position % kQueryTile == 0 &&
         ops::serves_prefill(input.q);
}

at::Tensor attend_by_tiles(const AttentionInput& input, const LayerIndexer& layer, const at::Tensor& index_keys,
                           LocalWindow local, const std::vector<double>& tile_shares, TileCounts& counts) {
  const ops::AttentionPlan plan = attention_plan(input.q.size(1), layer, local);
  const ops::PrefillInput attention{input.q, input.k, input.v, input.scale, {}};
  ops::AttentionOutput output = ops::prefill_resident(attention, plan);
  const ops::TileSelectionInput selection{layer.queries(input.q_pre_rope).transpose(0, 1).to(at::kHalf),
                                          index_keys.to(at::kHalf), layer.gate(input.q_pre_rope), output.lse};
  const std::vector<float> shares(tile_shares.begin(), tile_shares.end());
  const at::Tensor tiles = ops::select_tiles(selection, attention, plan, shares);
  counts.computed += count_bits(tiles);
  counts.far += layer.num_heads() * far_tiles(input.first_position, input.q.size(0), local);
  ops::prefill_selected(attention, plan, tiles, output);
  return output.o;
}

}  // namespace retrosparse
