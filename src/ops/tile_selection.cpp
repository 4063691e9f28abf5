#include "ops/tile_selection.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <retrosparse_kernels/tile_selection.h>

#include <algorithm>

#include "ops/binding.h"

namespace retrosparse::ops {
namespace {

constexpr std::string_view kOperation = "select_tiles";

}  // namespace

at::Tensor select_tiles(const TileSelectionInput& input, const PrefillInput& attention, const AttentionPlan& plan,
                        const std::vector<float>& tile_shares) {
  const at::Tensor& q = attention.q;
  const int64_t num_heads = q.size(1);
  const int64_t num_key_value_heads = attention.k.size(1);
  const std::vector<int32_t> heads = plan.selected_heads();
  std::vector<int64_t> groups;
  for (const int32_t head : heads) {
    groups.push_back(head / (num_heads / num_key_value_heads));
  }
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  const auto selected = static_cast<int64_t>(heads.size());
  require_tensor(input.queries, at::kHalf, {q.size(0), selected, kernels::kIndexDim}, q.device(), kOperation,
                 "queries");
  require_tensor(input.keys, at::kHalf, {static_cast<int64_t>(groups.size()), attention.k.size(0), kernels::kIndexDim},
                 q.device(), kOperation, "keys");
  require_tensor(input.gates, at::kFloat, {selected, q.size(0)}, q.device(), kOperation, "gates");
  require_tensor(input.lse_local, at::kFloat, {num_heads, q.size(0)}, q.device(), kOperation, "lse_local");
  if (tile_shares.size() != heads.size()) {
    reject(kOperation, "tile_shares", fmt::format("{} values", heads.size()), fmt::format("{}", tile_shares.size()));
  }

  const std::vector<kernels::PrefillSequence> sequences = attention.all_sequences();
  int64_t query_tiles = 0;
  int64_t most_keys = 0;
  for (const kernels::PrefillSequence& s : sequences) {
    query_tiles += (s.query_count + kernels::kPrefillQueryTile - 1) / kernels::kPrefillQueryTile;
    most_keys = std::max<int64_t>(most_keys, s.key_count);
  }
  const int64_t words = (most_keys + kernels::kPrefillKeyTile * 32 - 1) / (kernels::kPrefillKeyTile * 32);
  at::Tensor tiles = at::empty({selected, query_tiles, words}, q.options().dtype(at::kInt));
  if (tiles.numel() == 0) {
    return tiles;
  }
  const at::Tensor queries = input.queries.contiguous();
  const at::Tensor keys = input.keys.contiguous();
  const at::Tensor gates = input.gates.contiguous();
  const at::Tensor lse_local = input.lse_local.contiguous();
  kernels::TileSelectionParams params;
  params.queries = queries.const_data_ptr();
  params.keys = keys.const_data_ptr();
  params.gates = gates.const_data_ptr<float>();
  params.lse_local = lse_local.const_data_ptr<float>();
  params.gates_head_stride = params.lse_head_stride = q.size(0);
  params.selected_tiles = reinterpret_cast<uint32_t*>(tiles.mutable_data_ptr<int32_t>());
  params.selected_tiles_head_stride = tiles.stride(0);
  params.selected_tiles_query_stride = tiles.stride(1);
  params.total_queries = static_cast<int32_t>(q.size(0));
  params.total_keys = static_cast<int32_t>(attention.k.size(0));
  params.num_heads = static_cast<int32_t>(num_heads);
  params.num_key_value_heads = static_cast<int32_t>(num_key_value_heads);
  params.num_selected_heads = static_cast<int32_t>(selected);
  params.selected_heads = heads.data();
  params.tile_shares = tile_shares.data();
  params.sink_tokens = plan.sink_tokens;
  params.window = plan.window;
  params.sequences = sequences.data();
  params.num_sequences = static_cast<int32_t>(sequences.size());
#ifdef RETROSPARSE_WITH_CUDA
  if (q.is_cuda()) {
    const at::Tensor workspace = at::empty({1}, q.options().dtype(at::kInt));
    params.workspace = workspace.mutable_data_ptr<int32_t>();
    launch_on(q.device(), kOperation,
              [&](cudaStream_t stream) { return kernels::sm90::tile_selection(params, stream); });
    return tiles;
  }
#endif
  kernels::reference::tile_selection(params, nullptr);
  return tiles;
}

}  // namespace retrosparse::ops
