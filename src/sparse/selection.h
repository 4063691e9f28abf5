#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace retrosparse {

/// How a retrieval head picks far tokens (those beyond sinks and window) for a query.
enum class SelectionRule {
  kTopP,   ///< until the index says that the share p of the whole mass is covered; floor and cap (the default)
  kTopK,   ///< a fixed number: max_tokens
  kPaper,  ///< plain top-p over all keys (arXiv 2605.16928): the share p of the index's softmax; no floor, no cap
};

/// "top_p", "top_k", "paper". Throws Error for another name, suggesting the nearest.
SelectionRule selection_rule(const std::string& name);
std::string name_of(SelectionRule rule);

/// One head's settings.
struct GateSettings {
  double p = 0.9;             ///< share of the attention mass to cover, in (0, 1)
  int64_t min_tokens = 64;    ///< far tokens picked at least, where there are so many
  int64_t max_tokens = 1024;  ///< at most
  bool operator==(const GateSettings&) const = default;
};

/// The far tokens that n queries pick in R heads: positions int64 [R, n, P] in the order of falling score, of which
/// the first counts [R, n] are meant (the rest points at position 0), and P the largest count.
struct PickedTokens {
  at::Tensor positions, counts;
};

/// What a choice is made from; S keys.
struct SelectionInput {
  at::Tensor scores;     ///< float32 [R, n, S] index scores of all causal keys, -inf for the others
  at::Tensor far;        ///< bool [n, S]: causal, beyond the window and no sink
  at::Tensor lse_local;  ///< float32 [R, n]: exact, over sinks and window
  at::Tensor gate;       ///< float32 [R, n]: LayerIndexer::gate
};

/// LSE_far: of the scores of the far keys, [R, n]; -inf for a row without.
at::Tensor far_log_sum_exp(const SelectionInput& input);

/// The estimate of the attention mass on far keys, sigmoid(LSE_far(scores) + gate - LSE_local): [R, n], 0 for a row
/// without far keys.
at::Tensor far_mass(const SelectionInput& input, const at::Tensor& lse_far);

/// Picks by `rule`; settings: one for each head. Ties go to the lower position.
PickedTokens select_tokens(const SelectionInput& input, SelectionRule rule, const std::vector<GateSettings>& settings);

/// The same by tensor operations on any device, sorting all scores: what other devices than the CPU do.
PickedTokens select_tokens_by_sorting(const SelectionInput& input, SelectionRule rule,
                                      const std::vector<GateSettings>& settings);

/// The same on the CPU, row by row, sorting no more scores than are needed.
PickedTokens select_tokens_row_by_row(const SelectionInput& input, SelectionRule rule,
                                      const std::vector<GateSettings>& settings);

}  // namespace retrosparse
