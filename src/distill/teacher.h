#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>

#include "data/sample.h"
#include "model/model.h"
#include "sparse/head_plan.h"
#include "validate/label_rows.h"

namespace retrosparse {

/// How many rows of a document are learned, at the most.
struct RowsToLearn {
  int64_t label_rows = 300;
  int64_t prompt_rows = 0;
};

/// Rows of a document that are learned, and the tokens that they should predict.
struct DistillationRows {
  LabelRows rows;           ///< in rising order
  int64_t num_prompt = 0;   ///< of them come first and run as in prefill
  int64_t sparse_from = 0;  ///< the first row that runs sparse; where none does, the number of tokens
};

/// The last label_rows of those rows that predict label tokens, or of all where a document has no labels: they run
/// sparse. And prompt_rows of the rows before them, evenly spaced: what the windows of the local heads cost, a prompt
/// shows at every row, while most tasks have few labels. No row that has no far keys yet. May be empty.
DistillationRows distillation_rows(const Sample& sample, LocalWindow local, RowsToLearn counts);

/// What the dense model finds likely at some rows.
struct TeacherRows {
  at::Tensor logits;  ///< float32 [n, k], falling
  at::Tensor ids;     ///< int64 [n, k]
};

/// The dense model's answers about the documents of a run, in files, one for each document: asked once, read every time
/// the document comes. A document is known by its place in the run.
class TeacherAnswers {
 public:
  TeacherAnswers(std::filesystem::path folder, int64_t top_k, RowsToLearn rows);

  bool has(int64_t document) const;

  /// Asks the teacher about a sample and keeps what it says. Nothing is written where no row is learned.
  void ask(const Model& teacher, int64_t document, const Sample& sample, LocalWindow local,
           int64_t prefill_chunk) const;

  /// On `device`. Error: missing, damaged, or not of num_rows rows.
  TeacherRows read(int64_t document, size_t num_rows, at::Device device) const;

  const RowsToLearn& rows() const { return rows_; }

 private:
  std::filesystem::path path_of(int64_t document) const;

  std::filesystem::path folder_;
  int64_t top_k_;
  RowsToLearn rows_;
};

}  // namespace retrosparse
