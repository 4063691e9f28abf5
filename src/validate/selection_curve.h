#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "model/model.h"
#include "sparse/sparse_attention.h"
#include "validate/label_rows.h"

namespace retrosparse {

/// A sequence with the rows to score in it.
struct ScoredSample {
  std::string name;  ///< of the task, for the reader
  std::vector<int64_t> ids;
  LabelRows labels;
};

/// What one selection costs and keeps, over the label rows of all samples.
struct CurvePoint {
  SelectionSettings selection;
  LabelScores scores;                          ///< kl: against the model with dense retrieval heads
  HeadCounts counts;                           ///< far tokens of each retrieval head
  std::map<std::string, LabelScores> by_task;  ///< parts of `scores`
  double kl() const { return scores.kl / static_cast<double>(scores.rows); }  ///< nats a row
  double accuracy() const { return static_cast<double>(scores.correct) / static_cast<double>(scores.rows); }
  double far_tokens() const { return total(counts).mean(); }  ///< a head and row
};

/// A curve and the model with dense retrieval heads on the same rows.
struct SelectionCurve {
  LabelScores dense_retrieval;
  std::vector<CurvePoint> points;  ///< in the order of the selections
};

/// Measures several selections on the same samples: each sample is prefilled once with dense retrieval heads, then its
/// label rows run with dense retrieval heads and with every selection. Memory holds one sample at a time. `selections`
/// must not be empty.
SelectionCurve measure_selections(const Model& model, const SparseModel& sparse, int64_t num_samples,
                                  const std::function<ScoredSample(int64_t)>& sample,
                                  const std::vector<SelectionSettings>& selections, int64_t chunk);

}  // namespace retrosparse
