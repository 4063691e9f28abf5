#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>

#include "data/sample.h"
#include "model/model.h"
#include "sparse/head_plan.h"
#include "validate/label_rows.h"

namespace retrosparse {

/// The rows of a document that run sparse and are learned: the last `count` of those that predict label tokens, or of
/// all where it has no labels; none that has no far keys yet. May be empty.
LabelRows distillation_rows(const Sample& sample, LocalWindow local, int64_t count);

/// What the dense model finds likely at some rows.
struct TeacherRows {
  at::Tensor logits;  ///< float32 [n, k], falling
  at::Tensor ids;     ///< int64 [n, k]
};

/// The dense model's answers about the documents of a run, in files, one for each document: asked once, read every time
/// the document comes. A document is known by its place in the run.
class TeacherAnswers {
 public:
  TeacherAnswers(std::filesystem::path folder, int64_t top_k, int64_t label_rows);

  bool has(int64_t document) const;

  /// Asks the teacher about a sample and keeps what it says. Nothing is written where no row is learned.
  void ask(const Model& teacher, int64_t document, const Sample& sample, LocalWindow local,
           int64_t prefill_chunk) const;

  /// On `device`. Error: missing or damaged.
  TeacherRows read(int64_t document, at::Device device) const;

  int64_t label_rows() const { return label_rows_; }

 private:
  std::filesystem::path path_of(int64_t document) const;

  std::filesystem::path folder_;
  int64_t top_k_, label_rows_;
};

}  // namespace retrosparse
