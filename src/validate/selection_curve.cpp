#include "validate/selection_curve.h"

#include "base/interrupt.h"
#include "base/progress.h"

namespace retrosparse {

SelectionCurve measure_selections(const Model& model, const SparseModel& sparse, int64_t num_samples,
                                  const std::function<ScoredSample(int64_t)>& sample,
                                  const std::vector<SelectionSettings>& selections, int64_t chunk) {
  SelectionCurve curve;
  for (const SelectionSettings& selection : selections) {
    curve.points.push_back({selection, {}, {}, {}});
  }
  Progress progress("measure selections", num_samples * static_cast<int64_t>(selections.size()), "runs");
  for (int64_t index = 0; index < num_samples; ++index) {
    const ScoredSample scored = sample(index);
    PrefilledSample prefilled(model, sparse, scored.ids, scored.labels, chunk);
    const at::Tensor reference = prefilled.with_dense_retrieval();
    curve.dense_retrieval.add(score_rows(reference, scored.labels.targets));
    for (CurvePoint& point : curve.points) {
      InterruptGuard::check();
      const at::Tensor logits = prefilled.with_selection(point.selection, &point.counts);
      const LabelScores scores = score_rows(logits, scored.labels.targets, reference);
      point.scores.add(scores);
      point.by_task[scored.name].add(scores);
      progress.advance();
    }
  }
  progress.finish();
  return curve;
}

}  // namespace retrosparse
