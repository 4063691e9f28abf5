#include "sparse/selection.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/numeric.h"
#include "base/suggest.h"

namespace retrosparse {
namespace {

constexpr std::array<std::pair<const char*, SelectionRule>, 3> kRules{
    {{"top_p", SelectionRule::kTopP}, {"top_k", SelectionRule::kTopK}, {"paper", SelectionRule::kPaper}}};

at::Tensor far_scores(const SelectionInput& input) {
  return input.scores.masked_fill(input.far.logical_not().unsqueeze(0), kMinusInfinity);
}

// One value for each head, [R, 1], from a member of its settings.
template <typename Member>
at::Tensor per_head(const std::vector<GateSettings>& settings, Member member, const at::Tensor& like) {
  std::vector<double> values;
  values.reserve(settings.size());
  for (const GateSettings& setting : settings) {
    values.push_back(static_cast<double>(setting.*member));
  }
  return at::tensor(values, like.options().dtype(at::kDouble)).unsqueeze(1);
}

// How many entries of falling shares (rows that sum to 1, or NaN where there are none) it takes to reach `target`
// [R, n]: those before which less than the target lies.
at::Tensor entries_to_reach(const at::Tensor& sorted_shares, const at::Tensor& target) {
  const at::Tensor shares = sorted_shares.to(at::kDouble);
  const at::Tensor before = shares.cumsum(-1) - shares;
  return before.lt(target.unsqueeze(-1)).sum(-1);
}

// Keeps the first counts [R, n] of positions [R, n, S].
PickedTokens cut(const at::Tensor& positions, const at::Tensor& counts) {
  const int64_t longest = std::max<int64_t>(counts.max().item<int64_t>(), 1);
  const at::Tensor place = at::arange(longest, counts.options());
  const at::Tensor surplus = place.ge(counts.unsqueeze(-1));
  return {positions.narrow(-1, 0, longest).masked_fill(surplus, 0), counts};
}

// The paper's rule counts near keys too; only the far ones of its choice have to be fetched beside sinks and window.
PickedTokens select_like_the_paper(const SelectionInput& input, const std::vector<GateSettings>& settings) {
  auto [scores, order] = at::sort(input.scores, /*stable=*/true, /*dim=*/-1, /*descending=*/true);
  const at::Tensor shares = at::softmax(scores, -1);
  const at::Tensor target = per_head(settings, &GateSettings::p, shares).expand(input.lse_local.sizes());
  const at::Tensor chosen_count = entries_to_reach(shares, target);
  const at::Tensor chosen = at::arange(order.size(-1), order.options()).lt(chosen_count.unsqueeze(-1));
  const at::Tensor chosen_far = chosen.logical_and(input.far.unsqueeze(0).expand(order.sizes()).gather(-1, order));
  const at::Tensor far_first = chosen_far.to(at::kInt).argsort(/*stable=*/true, /*dim=*/-1, /*descending=*/true);
  return cut(order.gather(-1, far_first), chosen_far.sum(-1));
}

}  // namespace

SelectionRule selection_rule(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [known, rule] : kRules) {
    if (name == known) {
      return rule;
    }
    names.emplace_back(known);
  }
  Error error("unknown selection rule");
  error.expected("top_p, top_k or paper").found("'" + name + "'");
  if (const auto near = nearest(name, names)) {
    error.hint("did you mean '" + *near + "'?");
  }
  throw error;
}

std::string name_of(SelectionRule rule) {
  return std::ranges::find(kRules, rule, &std::pair<const char*, SelectionRule>::second)->first;
}

at::Tensor far_log_sum_exp(const SelectionInput& input) {
  return far_scores(input).logsumexp(-1);
}

at::Tensor far_mass(const SelectionInput& input, const at::Tensor& lse_far) {
  return at::sigmoid(lse_far + input.gate - input.lse_local);
}

PickedTokens select_tokens(const SelectionInput& input, SelectionRule rule, const std::vector<GateSettings>& settings) {
  return input.scores.is_cpu() ? select_tokens_row_by_row(input, rule, settings)
                               : select_tokens_by_sorting(input, rule, settings);
}

PickedTokens select_tokens_by_sorting(const SelectionInput& input, SelectionRule rule,
                                      const std::vector<GateSettings>& settings) {
  if (rule == SelectionRule::kPaper) {
    return select_like_the_paper(input, settings);
  }
  auto [scores, order] = at::sort(far_scores(input), /*stable=*/true, /*dim=*/-1, /*descending=*/true);
  const at::Tensor far_count = input.far.sum(-1).unsqueeze(0);  // [1, n]
  const at::Tensor cap = per_head(settings, &GateSettings::max_tokens, scores).to(at::kLong);
  at::Tensor counts = cap.expand(input.lse_local.sizes());
  if (rule == SelectionRule::kTopP) {
    const at::Tensor uncovered = 1 - per_head(settings, &GateSettings::p, scores);
    const at::Tensor target =
        1 -
        uncovered / far_mass(input, far_log_sum_exp(input));  // of the far mass; below 0: the window covers p already
    const at::Tensor floor = per_head(settings, &GateSettings::min_tokens, scores).to(at::kLong);
    counts = at::minimum(at::maximum(entries_to_reach(at::softmax(scores, -1), target), floor), cap);
  }
  return cut(order, at::minimum(counts, far_count));
}

}  // namespace retrosparse
