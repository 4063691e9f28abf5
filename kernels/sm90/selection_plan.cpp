#include "sm90/selection_plan.h"

#include <algorithm>

namespace retrosparse::kernels::sm90 {
namespace {

int32_t divide_up(int32_t a, int32_t b) {
  return (a + b - 1) / b;
}

int32_t most_tiles(const DecodeSelectionParams& params) {
  return divide_up(params.max_keys, kScoreTile);
}

}  // namespace

int32_t find_index_groups(const DecodeSelectionParams& params, int16_t (&first_of_group)[kSelectionMaxHeads + 1]) {
  const int32_t heads_per_group = params.num_heads / params.num_key_value_heads;
  int32_t groups = 0;
  for (int32_t r = 0; r < params.num_selected_heads; ++r) {
    if (r == 0 || params.selected_heads[r] / heads_per_group != params.selected_heads[r - 1] / heads_per_group) {
      first_of_group[groups++] = static_cast<int16_t>(r);
    }
  }
  first_of_group[groups] = static_cast<int16_t>(params.num_selected_heads);
  return groups;
}

SelectionPlan count_selection_rows(const DecodeSelectionParams& params) {
  SelectionPlan plan{};
  int16_t first_of_group[kSelectionMaxHeads + 1];
  plan.groups = find_index_groups(params, first_of_group);
  int32_t most_heads = 1;
  for (int32_t g = 0; g < plan.groups; ++g) {
    most_heads = std::max(most_heads, first_of_group[g + 1] - first_of_group[g]);
  }
  const int32_t group_rows = most_heads * params.query_tokens;
  plan.rows_at_once = group_rows <= 2 ? 2 : 8;
  plan.row_chunks = divide_up(group_rows, plan.rows_at_once);
  plan.rows = int64_t{params.batch} * params.query_tokens * params.num_selected_heads;
  return plan;
}

SplitKind selection_split_kind(const DecodeSelectionParams& params, const SelectionPlan& plan) {
  constexpr int64_t kTileBytes = int64_t{kScoreTile} * kIndexDim * 2;
  const int64_t tiles = most_tiles(params);
  return {.runs = int64_t{params.batch} * plan.groups * plan.row_chunks,
          .length = tiles * kTileBytes / kSplitUnitBytes,
          .most = std::max<int64_t>(1, tiles / kScoreWarps)};
}

void set_splits(const DecodeSelectionParams& params, int32_t splits, SelectionPlan& plan) {
  plan.splits = std::max(1, splits);
  plan.capacity = divide_up(most_tiles(params), plan.segments()) * kScoreTile;
}

int64_t score_slots(const SelectionPlan& plan, int32_t multiprocessors) {
  return 2 * int64_t{multiprocessors} - std::min<int64_t>(plan.rows, multiprocessors / 2);
}

SelectionPlan make_selection_plan(const DecodeSelectionParams& params, int32_t multiprocessors) {
  SelectionPlan plan = count_selection_rows(params);
  SplitKind kinds[] = {selection_split_kind(params, plan)};
  choose_splits(kinds, score_slots(plan, multiprocessors));
  set_splits(params, kinds[0].splits, plan);
  return plan;
}

}  // namespace retrosparse::kernels::sm90
