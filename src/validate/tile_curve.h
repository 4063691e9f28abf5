#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "validate/selection_curve.h"

namespace retrosparse {

/// What prefill by tiles costs and computes by one setting, over the label rows of all samples.
struct TilePoint {
  PrefillSettings prefill;
  LabelScores scores;                          ///< kl: against the model with dense retrieval heads
  std::map<std::string, LabelScores> by_task;  ///< parts of `scores`
  TileCounts counts;                           ///< of prompts and label rows
  double kl() const { return scores.kl / static_cast<double>(scores.rows); }  ///< nats a row
  double accuracy() const { return static_cast<double>(scores.correct) / static_cast<double>(scores.rows); }
};

/// Measures prefill by several settings, all of kTiles, on the same samples. Prompt and label rows alike are prefilled
/// by tiles: the label rows are those that need the far keys most, and dense they would hide what the tiles lose. Every
/// point takes a pass over the whole sample. Points in the order of `settings`.
std::vector<TilePoint> measure_tiles(const Model& model, const SparseModel& sparse, int64_t num_samples,
                                     const std::function<ScoredSample(int64_t)>& sample,
                                     const std::vector<PrefillSettings>& settings, int64_t chunk);

}  // namespace retrosparse
