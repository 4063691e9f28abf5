#include "calibrate/tile_share.h"

#include <algorithm>

#include "base/error.h"
#include "calibrate/by_head.h"

namespace retrosparse {
namespace {

PrefillSettings with_share_doubled(const HeadPlan& plan, const PrefillSettings& prefill, HeadPlace head) {
  PrefillSettings reduced = prefill;
  for (size_t layer = 0; layer < plan.retrieval_heads.size() && prefill.tile_shares.empty(); ++layer) {
    reduced.tile_shares.push_back(prefill.shares_of(layer, plan.retrieval_heads[layer].size()));
  }
  double& share = reduced.tile_shares[head.layer][head.place];
  share = std::min(2 * share, 1.0);
  return reduced;
}

}  // namespace

CalibratedTiles calibrate_tiles(const Model& model, const SparseModel& sparse, int64_t num_samples,
                                const std::function<ScoredSample(int64_t)>& sample, const TileSearch& search,
                                int64_t chunk) {
  if (search.tile_shares.empty()) {
    throw Error("nothing to calibrate prefill by tiles with").expected("a tile_share to try");
  }
  const HeadReduction<PrefillSettings, TilePoint> doubling{
      .measure =
          [&](const std::vector<PrefillSettings>& settings) {
            return measure_tiles(model, sparse, num_samples, sample, settings, chunk);
          },
      .reduced = [&](const PrefillSettings& prefill,
                     HeadPlace head) { return with_share_doubled(sparse.plan, prefill, head); },
      .settings = [](const TilePoint& point) -> const PrefillSettings& { return point.prefill; },
      .cost = [](const TilePoint& point) { return point.counts.density(); }};
  std::vector<PrefillSettings> settings;
  for (const double tile_share : search.tile_shares) {
    settings.push_back({PrefillMode::kTiles, tile_share, {}});
  }
  CalibratedTiles result;
  result.curve = doubling.measure(settings);
  result.chosen = cheapest(result.curve, search.kl_target, doubling.cost);
  result.target_met = result.chosen.kl() <= search.kl_target;
  if (result.target_met) {
    result.by_head = reduce_by_head(sparse.plan, result.chosen, search.kl_target, search.head_rounds, doubling);
  }
  if (!result.by_head.empty()) {
    result.chosen = result.by_head.back();
  }
  return result;
}

}  // namespace retrosparse
