#include "calibrate/gates.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "calibrate/by_head.h"

namespace retrosparse {
namespace {

std::vector<SelectionSettings> grid(const HeadPlan& plan, const GateSearch& search) {
  std::vector<SelectionSettings> settings;
  for (const int64_t cap : search.max_tokens) {
    for (const int64_t floor : search.min_tokens) {
      for (const double p : search.p) {
        if (floor <= cap) {
          settings.push_back(SelectionSettings::uniform(plan, SelectionRule::kTopP, {p, floor, cap}));
          settings.back().tail_block = search.tail_block;
        }
      }
    }
  }
  if (settings.empty()) {
    throw Error("nothing to calibrate with").expected("a p, and a min_tokens that is at most a max_tokens");
  }
  return settings;
}

GateSettings halved(const GateSettings& gate) {
  return {gate.p, gate.min_tokens / 2, std::max<int64_t>(gate.max_tokens / 2, 1)};
}

}  // namespace

CalibratedGates calibrate_gates(const Model& model, const SparseModel& sparse, int64_t num_samples,
                                const std::function<ScoredSample(int64_t)>& sample, const GateSearch& search,
                                int64_t chunk) {
  const auto measure = [&](const std::vector<SelectionSettings>& settings) {
    return measure_selections(model, sparse, num_samples, sample, settings, chunk);
  };
  CalibratedGates result;
  SelectionCurve curve = measure(grid(sparse.plan, search));
  result.dense_retrieval = curve.dense_retrieval;
  result.curve = std::move(curve.points);
  const HeadReduction<SelectionSettings, CurvePoint> halving{
      .measure = [&](const std::vector<SelectionSettings>& settings) { return measure(settings).points; },
      .reduced =
          [](const SelectionSettings& settings, HeadPlace head) {
            SelectionSettings reduced = settings;
            GateSettings& gate = reduced.gates[head.layer][head.place];
            gate = halved(gate);
            return reduced;
          },
      .settings = [](const CurvePoint& point) -> const SelectionSettings& { return point.selection; },
      .cost = [](const CurvePoint& point) { return point.far_tokens(); }};
  result.chosen = cheapest(result.curve, search.kl_target, halving.cost);
  result.target_met = result.chosen.kl() <= search.kl_target;
  if (result.target_met) {
    result.by_head = reduce_by_head(sparse.plan, result.chosen, search.kl_target, search.head_rounds, halving);
  }
  if (!result.by_head.empty()) {
    result.chosen = result.by_head.back();
  }
  return result;
}

}  // namespace retrosparse
