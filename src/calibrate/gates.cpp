#include "calibrate/gates.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

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

// The fewest tokens among those under the target; where none is, the lowest KL.
const CurvePoint& cheapest(const std::vector<CurvePoint>& points, double kl_target) {
  return *std::ranges::min_element(points, [&](const CurvePoint& a, const CurvePoint& b) {
    const bool a_meets = a.kl() <= kl_target, b_meets = b.kl() <= kl_target;
    if (a_meets != b_meets) {
      return a_meets;
    }
    return a_meets ? a.far_tokens() < b.far_tokens() : a.kl() < b.kl();
  });
}

struct HeadPlace {
  size_t layer, place;
};

GateSettings halved(const GateSettings& gate) {
  return {gate.p, gate.min_tokens / 2, std::max<int64_t>(gate.max_tokens / 2, 1)};
}

// Every head's settings halved on their own.
std::vector<std::pair<HeadPlace, SelectionSettings>> single_head_reductions(const SelectionSettings& settings) {
  std::vector<std::pair<HeadPlace, SelectionSettings>> reductions;
  for (size_t layer = 0; layer < settings.gates.size(); ++layer) {
    for (size_t place = 0; place < settings.gates[layer].size(); ++place) {
      SelectionSettings reduced = settings;
      reduced.gates[layer][place] = halved(settings.gates[layer][place]);
      reductions.emplace_back(HeadPlace{layer, place}, std::move(reduced));
    }
  }
  return reductions;
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
  result.chosen = cheapest(result.curve, search.kl_target);
  result.target_met = result.chosen.kl() <= search.kl_target;
  for (int64_t round = 0; result.target_met && round < search.head_rounds; ++round) {
    const auto reductions = single_head_reductions(result.chosen.selection);
    std::vector<SelectionSettings> settings;
    for (const auto& [head, reduced] : reductions) {
      settings.push_back(reduced);
    }
    const std::vector<CurvePoint> alone = measure(settings).points;
    std::vector<size_t> order;  // heads that save tokens, the cheapest in KL for a token first
    const auto price = [&](size_t index) {
      const double saved = result.chosen.far_tokens() - alone[index].far_tokens();
      return (alone[index].kl() - result.chosen.kl()) / saved;
    };
    for (size_t index = 0; index < alone.size(); ++index) {
      if (alone[index].far_tokens() < result.chosen.far_tokens()) {
        order.push_back(index);
      }
    }
    std::ranges::sort(order, {}, price);
    // Growing sets of heads in this order; their KLs do not simply add up, so the sets are measured too.
    std::vector<SelectionSettings> sets;
    SelectionSettings together = result.chosen.selection;
    for (const size_t index : order) {
      const HeadPlace head = reductions[index].first;
      together.gates[head.layer][head.place] = halved(together.gates[head.layer][head.place]);
      sets.push_back(together);
    }
    if (sets.empty()) {
      break;
    }
    const std::vector<CurvePoint> measured = measure(sets).points;
    const CurvePoint& best = cheapest(measured, search.kl_target);
    if (best.kl() > search.kl_target || best.far_tokens() >= result.chosen.far_tokens()) {
      break;
    }
    result.chosen = best;
    result.by_head.push_back(best);
  }
  return result;
}

}  // namespace retrosparse
