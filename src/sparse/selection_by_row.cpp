#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "sparse/ranked_keys.h"
#include "sparse/selection.h"

namespace retrosparse {
namespace {

// How many keys, in the order of their rank, it takes until their shares of exp(log_sum) reach `target`; at most
// `most`.
size_t keys_to_reach(RankedKeys& ranked, double log_sum, double target, size_t most) {
  size_t count = 0;
  for (double sum = 0; count < most && sum < target; ++count) {
    sum += std::exp(static_cast<double>(ranked.score(count)) - log_sum);
  }
  return count;
}

// One head's choice for one row after the other.
class RowSelection {
 public:
  RowSelection(SelectionRule rule, const bool* far, int64_t num_keys) : rule_(rule), far_(far), num_keys_(num_keys) {}

  // Picks for row `row` of the mask; log_sum: LSE of its far scores (of all causal ones for `paper`).
  void pick(const float* scores, int64_t row, const GateSettings& settings, double log_sum, double far_mass,
            std::vector<int64_t>& picked) {
    const bool* far = far_ + row * num_keys_;
    ranked_.clear();
    for (int64_t key = 0; key < num_keys_; ++key) {
      const bool counts =
          rule_ == SelectionRule::kPaper ? scores[key] > -std::numeric_limits<float>::infinity() : far[key];
      if (counts) {
        ranked_.add(scores[key], key);
      }
    }
    const size_t cap = std::min(static_cast<size_t>(settings.max_tokens), ranked_.size());
    size_t count = cap;
    if (rule_ == SelectionRule::kPaper) {
      count = keys_to_reach(ranked_, log_sum, settings.p, ranked_.size());
    } else if (rule_ == SelectionRule::kTopP) {
      const size_t needed = keys_to_reach(ranked_, log_sum, 1 - (1 - settings.p) / far_mass, cap);
      count = std::min(std::max(needed, static_cast<size_t>(settings.min_tokens)), cap);
    }
    for (size_t rank = 0; rank < count; ++rank) {
      if (const int64_t key = ranked_.position(rank); far[key]) {
        picked.push_back(key);
      }
    }
  }

 private:
  SelectionRule rule_;
  const bool* far_;
  int64_t num_keys_;
  RankedKeys ranked_;
};

}  // namespace

PickedTokens select_tokens_row_by_row(const SelectionInput& input, SelectionRule rule,
                                      const std::vector<GateSettings>& settings) {
  const int64_t num_heads = input.scores.size(0), num_rows = input.scores.size(1), num_keys = input.scores.size(2);
  const at::Tensor scores = input.scores.contiguous(), far = input.far.contiguous();
  at::Tensor log_sum = at::zeros({num_heads, num_rows}, scores.options()), mass = log_sum;
  if (rule == SelectionRule::kPaper) {
    log_sum = scores.logsumexp(-1);
  } else if (rule == SelectionRule::kTopP) {
    log_sum = far_log_sum_exp(input);
    mass = far_mass(input, log_sum).contiguous();
  }
  const float* log_sums = log_sum.const_data_ptr<float>();
  const float* masses = mass.const_data_ptr<float>();
  std::vector<std::vector<int64_t>> picked(static_cast<size_t>(num_heads * num_rows));
  at::parallel_for(0, num_heads * num_rows, 1, [&](int64_t begin, int64_t end) {
    RowSelection selection(rule, far.const_data_ptr<bool>(), num_keys);
    for (int64_t i = begin; i < end; ++i) {
      selection.pick(scores.const_data_ptr<float>() + i * num_keys, i % num_rows,
                     settings[static_cast<size_t>(i / num_rows)], log_sums[i], masses[i],
                     picked[static_cast<size_t>(i)]);
    }
  });
  size_t longest = 1;
  for (const std::vector<int64_t>& row : picked) {
    longest = std::max(longest, row.size());
  }
  PickedTokens result{at::zeros({num_heads, num_rows, static_cast<int64_t>(longest)}, far.options().dtype(at::kLong)),
                      at::empty({num_heads, num_rows}, far.options().dtype(at::kLong))};
  auto* positions = result.positions.mutable_data_ptr<int64_t>();
  auto* counts = result.counts.mutable_data_ptr<int64_t>();
  for (size_t i = 0; i < picked.size(); ++i) {
    std::ranges::copy(picked[i], positions + i * longest);
    counts[i] = static_cast<int64_t>(picked[i].size());
  }
  return result;
}

}  // namespace retrosparse
