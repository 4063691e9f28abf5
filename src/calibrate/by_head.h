#pragma once
// Calibration head by head: from settings that meet a KL target to cheaper ones that still do.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "sparse/head_plan.h"

namespace retrosparse {

/// A retrieval head: its layer, and its place among the layer's retrieval heads.
struct HeadPlace {
  size_t layer, place;
};

/// How settings of type `Settings`, measured as a `Point` with kl(), are made cheaper.
template <typename Settings, typename Point>
struct HeadReduction {
  std::function<std::vector<Point>(const std::vector<Settings>&)> measure;  ///< points in the order of the settings
  std::function<Settings(const Settings&, HeadPlace)> reduced;              ///< the same with one head given less
  std::function<const Settings&(const Point&)> settings;                    ///< that were measured
  std::function<double(const Point&)> cost;                                 ///< what is to fall: tokens, tiles
};

/// The least cost among the points under the target; where none is, the lowest KL. `points` is not empty.
template <typename Point, typename Cost>
const Point& cheapest(const std::vector<Point>& points, double kl_target, const Cost& cost) {
  return *std::ranges::min_element(points, [&](const Point& a, const Point& b) {
    const bool a_meets = a.kl() <= kl_target, b_meets = b.kl() <= kl_target;
    if (a_meets != b_meets) {
      return a_meets;
    }
    return a_meets ? cost(a) < cost(b) : a.kl() < b.kl();
  });
}

/// Up to `rounds` times: tries every head with less by itself, then growing sets of them, those that cost the least KL
/// for what they save first, and takes the cheapest set under the target. (The KLs of single heads do not simply add
/// up, so that the sets are measured too.) Returns what each round that brought something chose; the last is the best.
template <typename Settings, typename Point>
std::vector<Point> reduce_by_head(const HeadPlan& plan, Point chosen, double kl_target, int64_t rounds,
                                  const HeadReduction<Settings, Point>& by) {
  std::vector<HeadPlace> heads;
  for (size_t layer = 0; layer < plan.retrieval_heads.size(); ++layer) {
    for (size_t place = 0; place < plan.retrieval_heads[layer].size(); ++place) {
      heads.push_back({layer, place});
    }
  }
  std::vector<Point> accepted;
  for (int64_t round = 0; round < rounds; ++round) {
    std::vector<Settings> single;
    for (const HeadPlace head : heads) {
      single.push_back(by.reduced(by.settings(chosen), head));
    }
    const std::vector<Point> alone = by.measure(single);
    std::vector<size_t> order;
    for (size_t index = 0; index < alone.size(); ++index) {
      if (by.cost(alone[index]) < by.cost(chosen)) {
        order.push_back(index);
      }
    }
    std::ranges::sort(order, {}, [&](size_t index) {
      return (alone[index].kl() - chosen.kl()) / (by.cost(chosen) - by.cost(alone[index]));
    });
    std::vector<Settings> sets;
    Settings together = by.settings(chosen);
    for (const size_t index : order) {
      together = by.reduced(together, heads[index]);
      sets.push_back(together);
    }
    if (sets.empty()) {
      break;
    }
    const std::vector<Point> measured = by.measure(sets);
    const Point& best = cheapest(measured, kl_target, by.cost);
    if (best.kl() > kl_target || by.cost(best) >= by.cost(chosen)) {
      break;
    }
    chosen = best;
    accepted.push_back(best);
  }
  return accepted;
}

}  // namespace retrosparse
