#include "validate/tile_curve.h"

#include "base/interrupt.h"
#include "base/progress.h"

namespace retrosparse {

std::vector<TilePoint> measure_tiles(const Model& model, const SparseModel& sparse, int64_t num_samples,
                                     const std::function<ScoredSample(int64_t)>& sample,
                                     const std::vector<PrefillSettings>& settings, int64_t chunk) {
  std::vector<TilePoint> points;
  for (const PrefillSettings& prefill : settings) {
    points.push_back({prefill, {}, {}, {}});
  }
  Progress progress("measure tiles", num_samples * static_cast<int64_t>(settings.size()), "runs");
  for (int64_t index = 0; index < num_samples; ++index) {
    const ScoredSample scored = sample(index);
    const at::Tensor reference =
        PrefilledSample(model, sparse, scored.ids, scored.labels, chunk).with_dense_retrieval();
    for (TilePoint& point : points) {
      InterruptGuard::check();
      PrefilledSample prefilled(model, sparse, scored.ids, scored.labels, chunk, point.prefill);
      const at::Tensor logits = prefilled.with_prefill(&point.counts);
      const LabelScores scores = score_rows(logits, scored.labels.targets, reference);
      point.scores.add(scores);
      point.by_task[scored.name].add(scores);
      progress.advance();
    }
  }
  progress.finish();
  return points;
}

}  // namespace retrosparse
