#include "validate/label_rows.h"

#include <ATen/ops/argmax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <limits>
#include <utility>

#include "base/error.h"

namespace retrosparse {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// Places of the label rows in a tensor whose first row is the first of them.
at::Tensor places_of(const LabelRows& labels, at::Device device) {
  return at::tensor(labels.rows, at::kLong).sub(labels.first()).to(device);
}

void check_fit(const std::vector<int64_t>& ids, const LabelRows& labels) {
  if (labels.rows.empty() || labels.rows.size() != labels.targets.size() || labels.rows.front() < 0 ||
      labels.rows.back() >= static_cast<int64_t>(ids.size())) {
    throw Error("label rows do not fit their sample").expected(fmt::format("rows from 0 to {}", ids.size() - 1));
  }
}

// The ids from the first label row to the last.
std::vector<int64_t> tail_of(const std::vector<int64_t>& ids, const LabelRows& labels) {
  check_fit(ids, labels);
  return {ids.begin() + labels.rows.front(), ids.begin() + labels.rows.back() + 1};
}

}  // namespace

PrefilledSample::PrefilledSample(const Model& model, const SparseModel& sparse, const std::vector<int64_t>& ids,
                                 LabelRows labels, int64_t chunk, const PrefillSettings& prefill)
    : model_(model),
      tail_(tail_of(ids, labels)),
      labels_(std::move(labels)),
      cache_(model.make_cache()),
      prefill_(prefill),
      attention_(sparse) {
  const c10::InferenceMode inference;
  attention_.set_prefill(prefill_);
  cache_.reserve(labels_.rows.back() + 1);
  const at::IntArrayRef prompt = at::IntArrayRef(ids).slice(0, static_cast<size_t>(labels_.first()));
  model_.prefill(prompt, chunk, {.cache = &cache_, .attention = &attention_}, [](int64_t, const at::Tensor&) {});
  prompt_tiles_ = attention_.tile_counts();
}

at::Tensor PrefilledSample::run() {
  const c10::InferenceMode inference;
  const at::Tensor hidden = model_.forward(tail_, {.cache = &cache_, .attention = &attention_});
  cache_.truncate(labels_.first());
  return model_.logits(hidden.index_select(0, places_of(labels_, hidden.device())));
}

at::Tensor PrefilledSample::with_dense_retrieval() {
  attention_.set_prefill({});
  attention_.set_sparse_from(kNever);
  return run();
}

at::Tensor PrefilledSample::with_prefill(TileCounts* counts) {
  attention_.set_prefill(prefill_);
  attention_.set_sparse_from(kNever);
  attention_.reset_counts();
  const at::Tensor logits = run();
  if (counts != nullptr) {
    counts->add(prompt_tiles_);
    counts->add(attention_.tile_counts());
  }
  return logits;
}

at::Tensor PrefilledSample::with_selection(const SelectionSettings& selection, HeadCounts* counts) {
  attention_.set_selection(selection);
  attention_.set_sparse_from(labels_.first());
  attention_.reset_counts();
  const at::Tensor logits = run();
  if (counts != nullptr) {
    add(*counts, attention_.counts());
  }
  return logits;
}

at::Tensor dense_label_logits(const Model& model, const std::vector<int64_t>& ids, const LabelRows& labels,
                              int64_t chunk) {
  const c10::InferenceMode inference;
  check_fit(ids, labels);
  KvCache cache = model.make_cache();
  std::vector<at::Tensor> hidden_of_labels;
  auto row = labels.rows.begin();
  const auto keep_labels = [&](int64_t first, const at::Tensor& hidden) {
    std::vector<int64_t> places;
    for (; row != labels.rows.end() && *row < first + hidden.size(0); ++row) {
      places.push_back(*row - first);
    }
    hidden_of_labels.push_back(hidden.index_select(0, at::tensor(places, at::kLong).to(hidden.device())));
  };
  const at::IntArrayRef seen = at::IntArrayRef(ids).slice(0, static_cast<size_t>(labels.rows.back() + 1));
  model.prefill(seen, chunk, {.cache = &cache}, keep_labels);
  return model.logits(at::cat(hidden_of_labels));
}

void LabelScores::add(const LabelScores& other) {
  rows += other.rows;
  correct += other.correct;
  all_correct = all_correct && other.all_correct;
  nll += other.nll;
  kl += other.kl;
}

LabelScores score_rows(const at::Tensor& logits, const std::vector<int64_t>& targets, const at::Tensor& reference) {
  const c10::InferenceMode inference;
  const at::Tensor target = at::tensor(targets, at::kLong).to(logits.device());
  const at::Tensor log_share = at::log_softmax(logits.to(at::kDouble), -1);
  LabelScores scores;
  scores.rows = logits.size(0);
  scores.correct = logits.argmax(-1).eq(target).sum().item<int64_t>();
  scores.all_correct = scores.correct == scores.rows;
  scores.nll = -log_share.gather(-1, target.unsqueeze(-1)).sum().item<double>();
  if (reference.defined()) {
    const at::Tensor log_reference = at::log_softmax(reference.to(at::kDouble), -1);
    scores.kl = (log_reference.exp() * (log_reference - log_share)).sum().item<double>();
  }
  return scores;
}

}  // namespace retrosparse
