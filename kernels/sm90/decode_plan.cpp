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

int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace

DecodePlan make_decode_plan(const DecodeAttentionParams& params, int32_t multiprocessors) {
  DecodePlan plan{};
  plan.heads_per_group = params.num_heads / params.num_key_value_heads;
  plan.row_tiles = static_cast<int32_t>(divide_up(int64_t{plan.heads_per_group} * params.query_tokens, kDecodeRows));
  const RowCounts rows = count_rows(params, plan);
  const int64_t resident =
      std::min<int64_t>(params.max_keys, int64_t{params.sink_tokens} + params.window + params.query_tokens - 1);
  const bool has_window = params.part != DecodePart::kSelected;
  const int64_t far = has_window && rows.tiles_with_dense > 0 ? params.max_keys - resident : 0;
  // With kSelected a row that may select nothing still has a unit, which hands over what kResident left.
  const int64_t least_selected = has_window ? 0 : 1;
  const int64_t selected = params.part != DecodePart::kResident && rows.selected > 0
                               ? std::max<int64_t>(params.max_selected, least_selected)
                               : 0;
  const int64_t tiles = int64_t{params.num_key_value_heads} * plan.row_tiles;

  // A few resident keys are waited for rather than streamed: one block per multiprocessor is as fast as two, and leaves
  // room for the index scores and candidates beside them.
  constexpr int64_t kFewKeys = 512;
  const bool leaves_room =
      params.part == DecodePart::kResident && far == 0 && params.batch * tiles * resident <= kFewKeys * multiprocessors;
  // The unit size with the least estimated time: waves of one or two blocks per multiprocessor, each as long as its
  // keys plus what starting and merging a unit costs, in keys.
  constexpr int64_t kUnitOverhead = 128;
  const int64_t slots = (leaves_room ? 1 : 2) * int64_t{multiprocessors};
  const auto splits = [](int64_t keys, int64_t size) {
    return keys > 0 ? std::min<int64_t>(divide_up(keys, size), kDecodeMaxSplits) : 0;
  };
  int64_t best_cost = INT64_MAX;
  for (int64_t size = 64; size < 2 * (std::max({resident, far, selected}) + 64);
       size += std::max<int64_t>(64, size / 8)) {
    const int64_t units =
        params.batch * (tiles * (has_window ? splits(resident, size) : 0) + rows.tiles_with_dense * splits(far, size) +
                        rows.selected * splits(selected, size));
    const int64_t longest =
        std::max({has_window ? divide_up(resident, std::max<int64_t>(1, splits(resident, size))) : 0,
                  far > 0 ? divide_up(far, splits(far, size)) : 0,
                  selected > 0 ? divide_up(selected, splits(selected, size)) : 0});
    const int64_t cost = divide_up(units, slots) * (longest + kUnitOverhead);
    if (cost < best_cost) {
      best_cost = cost;
      plan.window_splits = static_cast<int32_t>(has_window ? splits(resident, size) : 0);
      plan.far_splits = static_cast<int32_t>(splits(far, size));
      plan.selected_splits = static_cast<int32_t>(splits(selected, size));
    }
  }
  plan.selected_rows = plan.selected_splits > 0 ? rows.most_selected : 0;
  return plan;
}

}  // namespace retrosparse::kernels::sm90
