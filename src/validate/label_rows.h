#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/model.h"
#include "sparse/sparse_attention.h"

namespace retrosparse {

/// The rows of a sample that are scored: row r predicts token r + 1. Ascending, not empty.
struct LabelRows {
  std::vector<int64_t> rows;
  std::vector<int64_t> targets;  ///< the tokens that they should predict

  int64_t first() const { return rows.front(); }
};

/// One sample whose prompt has been prefilled once, so that its label rows can be run again and again with other
/// selections: a whole curve costs little more than one point.
class PrefilledSample {
 public:
  /// Runs the tokens before the first label row; the retrieval heads read them as `prefill` says, whatever the model's
  /// own settings are. Both references must outlive this object. Error: label rows that do not fit the sample.
  PrefilledSample(const Model& model, const SparseModel& sparse, const std::vector<int64_t>& ids, LabelRows labels,
                  int64_t chunk, const PrefillSettings& prefill = {});

  const LabelRows& labels() const { return labels_; }
  const TileCounts& prompt_tiles() const { return prompt_tiles_; }  ///< none where the prompt was read densely

  /// Scores of the label rows, float32 [n, vocab], with the retrieval heads dense: after a dense prompt what sparse
  /// ones are compared with.
  at::Tensor with_dense_retrieval();

  /// The same with the label rows prefilled as the prompt was; adds the tiles of both.
  at::Tensor with_prefill(TileCounts* counts = nullptr);

  /// The same with the retrieval heads picking by `selection`; adds what they picked.
  at::Tensor with_selection(const SelectionSettings& selection, HeadCounts* counts = nullptr);

 private:
  at::Tensor run();  // the rows from the first label row on, and then forgets them

  const Model& model_;
  std::vector<int64_t> tail_;  // ids from the first label row to the last
  LabelRows labels_;
  KvCache cache_;
  PrefillSettings prefill_;
  SparseAttention attention_;
  TileCounts prompt_tiles_;
};

/// The unconverted model's scores of the label rows, float32 [n, vocab]: every head dense. Runs chunk by chunk,
/// wherever the label rows are. Error: label rows that do not fit the sample.
at::Tensor dense_label_logits(const Model& model, const std::vector<int64_t>& ids, const LabelRows& labels,
                              int64_t chunk);

/// What the scores say about the rows, sums over rows.
struct LabelScores {
  int64_t rows = 0;
  int64_t correct = 0;  ///< rows whose likeliest token is the target
  bool all_correct = true;
  double nll = 0;  ///< negative log-likelihood of the targets, nats
  double kl = 0;   ///< KL(reference || these scores), nats; 0 without a reference

  void add(const LabelScores& other);
};

/// logits and reference [n, vocab]; an undefined reference leaves kl at 0.
LabelScores score_rows(const at::Tensor& logits, const std::vector<int64_t>& targets, const at::Tensor& reference = {});

}  // namespace retrosparse
