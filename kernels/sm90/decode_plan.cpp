#include "sm90/decode_plan.h"

#include <algorithm>

namespace retrosparse::kernels::sm90 {
namespace {

/// Rows of a kind that the tiles of all groups hold.
struct RowCounts {
  int32_t tiles_with_dense = 0;
  int32_t selected = 0;       ///< rows in all tiles
  int32_t most_selected = 0;  ///< rows in one tile
};

RowCounts count_rows(const DecodeAttentionParams& params, const DecodePlan& plan) {
  RowCounts counts;
  const int32_t rows = plan.heads_per_group * params.query_tokens;
  for (int32_t group = 0; group < params.num_key_value_heads; ++group) {
    for (int32_t tile = 0; tile < plan.row_tiles; ++tile) {
      int32_t selected = 0;
      bool dense = false;
      for (int32_t row = tile * kDecodeRows; row < std::min(rows, (tile + 1) * kDecodeRows); ++row) {
        const HeadMode mode = params.head_modes[group * plan.heads_per_group + row % plan.heads_per_group];
        selected += mode == HeadMode::kSelected;
        dense = dense || mode == HeadMode::kDense;
      }
      counts.tiles_with_dense += dense;
      counts.selected += selected;
      counts.most_selected = std::max(counts.most_selected, selected);
    }
  }
  return counts;
}

/// The kinds of units of a launch.
struct DecodeKinds {
  SplitKind window, far, selected;
};

DecodeKinds find_kinds(const DecodeAttentionParams& params, const DecodePlan& plan, const RowCounts& rows) {
  const int64_t key_bytes = 4 * int64_t{params.head_dim};
  const auto length = [&](int64_t keys) { return (keys * key_bytes + kSplitUnitBytes - 1) / kSplitUnitBytes; };
  const int64_t resident =
      std::min<int64_t>(params.max_keys, int64_t{params.sink_tokens} + params.window + params.query_tokens - 1);
  const int64_t tiles = int64_t{params.num_key_value_heads} * plan.row_tiles;
  return {{.runs = params.batch * tiles, .length = length(resident)},
          {.runs = int64_t{params.batch} * rows.tiles_with_dense, .length = length(params.max_keys - resident)},
          {.runs = int64_t{params.batch} * rows.selected, .length = length(params.max_selected)}};
}

DecodePlan count_tiles(const DecodeAttentionParams& params) {
  DecodePlan plan{};
  plan.heads_per_group = params.num_heads / params.num_key_value_heads;
  plan.row_tiles = (plan.heads_per_group * params.query_tokens + kDecodeRows - 1) / kDecodeRows;
  return plan;
}

}  // namespace

DecodePlan make_decode_plan(const DecodeAttentionParams& params, int32_t multiprocessors) {
  DecodePlan plan = count_tiles(params);
  const RowCounts rows = count_rows(params, plan);
  const DecodeKinds found = find_kinds(params, plan, rows);
  SplitKind kinds[] = {found.window, found.far, found.selected};
  choose_splits(kinds, 2 * int64_t{multiprocessors});
  plan.window_splits = kinds[0].splits;
  plan.far_splits = kinds[1].splits;
  plan.selected_splits = kinds[2].splits;
  plan.selected_rows = plan.selected_splits > 0 ? rows.most_selected : 0;
  return plan;
}

DecodePlan make_resident_plan(const DecodeAttentionParams& params, int64_t slots, SplitKind& scores) {
  DecodePlan plan = count_tiles(params);
  const DecodeKinds found = find_kinds(params, plan, count_rows(params, plan));
  SplitKind kinds[] = {found.window, found.far, scores};
  choose_splits(kinds, slots);
  plan.window_splits = kinds[0].splits;
  plan.far_splits = kinds[1].splits;
  scores = kinds[2];
  return plan;
}

}  // namespace retrosparse::kernels::sm90
