#include "calibrate/tile_share.h"

#include <algorithm>

#include "base/error.h"

namespace retrosparse {

CalibratedTileShare calibrate_tile_share(const Model& model, const SparseModel& sparse, int64_t num_samples,
                                         const std::function<ScoredSample(int64_t)>& sample,
                                         const std::vector<double>& tile_shares, double kl_target, int64_t chunk) {
  if (tile_shares.empty()) {
    throw Error("nothing to calibrate prefill by tiles with").expected("a tile_share to try");
  }
  CalibratedTileShare result;
  result.curve = measure_tiles(model, sparse, num_samples, sample, tile_shares, chunk);
  result.chosen = *std::ranges::min_element(result.curve, [&](const TilePoint& a, const TilePoint& b) {
    const bool a_meets = a.kl() <= kl_target, b_meets = b.kl() <= kl_target;
    if (a_meets != b_meets) {
      return a_meets;
    }
    return a_meets ? a.tile_share > b.tile_share : a.kl() < b.kl();
  });
  result.target_met = result.chosen.kl() <= kl_target;
  return result;
}

}  // namespace retrosparse
