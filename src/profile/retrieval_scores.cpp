#include "profile/retrieval_scores.h"

#include <ATen/ops/matmul.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "model/dense_attention.h"

namespace retrosparse {
namespace {

struct RankedHead {
  double score;
  int64_t layer, head;
};

// All heads, best first.
std::vector<RankedHead> rank(const HeadTable& scores) {
  std::vector<RankedHead> ranked;
  for (size_t layer = 0; layer < scores.size(); ++layer) {
    for (size_t head = 0; head < scores[layer].size(); ++head) {
      ranked.push_back({scores[layer][head], static_cast<int64_t>(layer), static_cast<int64_t>(head)});
    }
  }
  std::ranges::stable_sort(ranked, std::greater{}, &RankedHead::score);
  return ranked;
}

// Sums, as the chunks go by, the mass that rows of the later needle put on the earlier one.
class MassOnNeedle : public AttentionObserver {
 public:
  MassOnNeedle(const NeedlePair& pair, const ModelConfig& config)
      : pair_(pair),
        group_size_(config.group_size()),
        mass(static_cast<size_t>(config.num_hidden_layers),
             std::vector<double>(static_cast<size_t>(config.num_attention_heads))) {}

  void observe(const AttentionInput& input) override {
    const int64_t first = std::max(pair_.second.begin, input.first_position);
    const int64_t last = std::min(pair_.second.end, input.first_position + input.q.size(0));
    if (first >= last) {
      return;
    }
    const at::Tensor q = input.q.narrow(0, first - input.first_position, last - first);
    const PartialAttention all = attend_dense(q, input.k.narrow(0, 0, last), input.v.narrow(0, 0, last), input.scale);
    const at::Tensor needle =
        input.k.narrow(0, pair_.first.begin, pair_.first.size()).repeat_interleave(group_size_, 1);
    const at::Tensor scores =  // [H, rows, needle]
        at::matmul(q.to(at::kFloat).transpose(0, 1), needle.to(at::kFloat).permute({1, 2, 0})).mul(input.scale);
    const at::Tensor on_needle = (scores - all.lse.t().unsqueeze(-1)).exp().sum({1, 2}).to(at::kCPU, at::kDouble);
    for (int64_t head = 0; head < on_needle.size(0); ++head) {
      mass[static_cast<size_t>(input.layer)][static_cast<size_t>(head)] +=
          on_needle.const_data_ptr<double>()[head] / static_cast<double>(pair_.second.size());
    }
  }

 private:
  const NeedlePair& pair_;
  int64_t group_size_;

 public:
  HeadTable mass;  // [layer][head]
};

void check(const NeedlePair& pair) {
  const auto [first, second] = std::pair(pair.first, pair.second);
  if (first.begin < 0 || first.size() < 1 || first.size() != second.size() || first.end > second.begin ||
      second.end > static_cast<int64_t>(pair.ids.size())) {
    throw Error("needles do not fit their document")
        .expected(fmt::format("two ranges of one size, apart from each other, within {} tokens", pair.ids.size()))
        .found(fmt::format("[{}, {}) and [{}, {})", first.begin, first.end, second.begin, second.end));
  }
}

void check_finite(const HeadTable& mass) {
  for (size_t layer = 0; layer < mass.size(); ++layer) {
    if (!std::ranges::all_of(mass[layer], [](double value) { return std::isfinite(value); })) {
      throw Error(fmt::format("layer {}: attention that is not finite", layer))
          .hint("are there NaN or infinite weights in this layer or before it?");
    }
  }
}

HeadTable fold(const std::vector<HeadTable>& each, const auto& reduce) {
  HeadTable result = each.front();
  for (size_t layer = 0; layer < result.size(); ++layer) {
    for (size_t head = 0; head < result[layer].size(); ++head) {
      std::vector<double> values;
      for (const HeadTable& table : each) {
        values.push_back(table[layer][head]);
      }
      result[layer][head] = reduce(values);
    }
  }
  return result;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) {
    sum += value;
  }
  return sum / static_cast<double>(values.size());
}

double deviation_of(const std::vector<double>& values) {
  const double mean = mean_of(values);
  double sum = 0;
  for (const double value : values) {
    sum += (value - mean) * (value - mean);
  }
  return values.size() < 2 ? 0 : std::sqrt(sum / static_cast<double>(values.size() - 1));
}

}  // namespace

double RetrievalScores::stability(int64_t count) const {
  if (each.size() < 2) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const auto best = [&](const HeadTable& table) {
    std::vector<std::pair<int64_t, int64_t>> heads;
    for (const RankedHead& head : rank(table)) {
      if (static_cast<int64_t>(heads.size()) < count) {
        heads.emplace_back(head.layer, head.head);
      }
    }
    return heads;
  };
  const auto chosen = best(mean);
  double shared = 0;
  for (const HeadTable& table : each) {
    for (const auto& head : best(table)) {
      shared += static_cast<double>(std::ranges::count(chosen, head));
    }
  }
  return shared / static_cast<double>(chosen.size() * each.size());
}

RetrievalScores measure_retrieval(const Model& model, std::span<const NeedlePair> documents, int64_t chunk) {
  if (documents.empty()) {
    throw Error("no documents to profile with");
  }
  const c10::InferenceMode inference;
  RetrievalScores scores;
  Progress progress("profile", static_cast<int64_t>(documents.size()), "documents");
  for (const NeedlePair& document : documents) {
    check(document);
    InterruptGuard::check();
    MassOnNeedle observer(document, model.config());
    KvCache cache = model.make_cache();
    model.prefill(document.ids, chunk, {.cache = &cache, .observers = {&observer}}, [](int64_t, const at::Tensor&) {});
    check_finite(observer.mass);
    scores.each.push_back(std::move(observer.mass));
    progress.advance();
  }
  progress.finish();
  scores.mean = fold(scores.each, mean_of);
  scores.spread = fold(scores.each, deviation_of);
  return scores;
}

std::vector<std::vector<int64_t>> choose_retrieval_heads(const HeadTable& scores, double ratio, HeadPolicy policy,
                                                         int64_t num_key_value_heads) {
  const int64_t num_heads = static_cast<int64_t>(scores.front().size()), group_size = num_heads / num_key_value_heads;
  const double all = static_cast<double>(scores.size()) * static_cast<double>(num_heads);
  const int64_t wanted = std::max<int64_t>(std::llround(ratio * all), 1);
  std::vector<std::vector<int64_t>> chosen(scores.size());
  int64_t count = 0;
  for (const RankedHead& best : rank(scores)) {
    std::vector<int64_t>& heads = chosen[static_cast<size_t>(best.layer)];
    if (count >= wanted || std::ranges::count(heads, best.head) > 0) {
      continue;
    }
    const int64_t first = policy == HeadPolicy::kKvGroup ? best.head / group_size * group_size : best.head;
    const int64_t last = policy == HeadPolicy::kKvGroup ? first + group_size : best.head + 1;
    for (int64_t head = first; head < last; ++head) {
      heads.push_back(head);
      ++count;
    }
  }
  for (std::vector<int64_t>& heads : chosen) {
    std::ranges::sort(heads);
  }
  return chosen;
}

}  // namespace retrosparse
