#include "cli/conversion_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "cli/output.h"

namespace retrosparse::cli {
namespace {

// One value of a layer's gates: "64", or "64 to 256" where its heads differ.
template <typename Member>
std::string range_of(const std::vector<GateSettings>& gates, Member member) {
  const auto [low, high] = std::ranges::minmax_element(gates, {}, member);
  return (*low).*member == (*high).*member ? fmt::format("{}", (*low).*member)
                                           : fmt::format("{} to {}", (*low).*member, (*high).*member);
}

std::string gate_table(const SparseModel& model) {
  const bool counts_p = model.selection.rule != SelectionRule::kTopK;
  const bool counts_floor = model.selection.rule == SelectionRule::kTopP;
  const bool counts_cap = model.selection.rule != SelectionRule::kPaper;
  Table table({"layer", "retrieval heads", "p", "at least", "at most"});
  for (size_t layer = 0; layer < model.plan.retrieval_heads.size(); ++layer) {
    const std::vector<int64_t>& heads = model.plan.retrieval_heads[layer];
    const std::vector<GateSettings>& gates = model.selection.gates[layer];
    if (!heads.empty()) {
      table.add({std::to_string(layer), fmt::format("{}", fmt::join(heads, " ")),
                 counts_p ? range_of(gates, &GateSettings::p) : "-",
                 counts_floor ? range_of(gates, &GateSettings::min_tokens) : "-",
                 counts_cap ? range_of(gates, &GateSettings::max_tokens) : "-"});
    }
  }
  return table.text(4);
}

}  // namespace

std::string describe_conversion(const ConvertedModel& model) {
  const HeadPlan& plan = model.sparse.plan;
  const auto layers = std::ranges::count_if(plan.retrieval_heads, [](const auto& heads) { return !heads.empty(); });
  const auto all_heads = static_cast<int64_t>(plan.retrieval_heads.size()) * plan.num_attention_heads;
  std::string text;
  text += field("retrieval heads", fmt::format("{} of {}, in {} of {} layers", plan.num_retrieval_heads(), all_heads,
                                               layers, plan.retrieval_heads.size()));
  text += field("local heads see",
                fmt::format("the first {} tokens and the latest {}", plan.local.sink_tokens, plan.local.window));
  text += field("index", fmt::format("{} numbers per token and key/value group", model.sparse.indexer.index_dim));
  text += field("prefill", model.sparse.prefill.mode == PrefillMode::kTiles
                               ? "tiles, tile_share " + model.sparse.prefill.shares_text()
                               : "retrieval heads dense");
  text += field("selection", name_of(model.sparse.selection.rule));
  text += field("tail", model.sparse.selection.tail_block == 0
                            ? "none: far tokens that are not picked do not count"
                            : fmt::format("tail_block {}: far tokens that are not picked count by the mean value of "
                                          "their block of so many",
                                          model.sparse.selection.tail_block));
  return plan.num_retrieval_heads() == 0 ? text : text + gate_table(model.sparse);
}

}  // namespace retrosparse::cli
