#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "validate/tile_curve.h"

namespace retrosparse {

/// The tile_share that calibration chose, and everything that it measured.
struct CalibratedTileShare {
  TilePoint chosen;
  bool target_met = false;       ///< false: the chosen point is the one of lowest KL
  std::vector<TilePoint> curve;  ///< in the order of the shares
};

/// Finds the largest of `tile_shares`, that is, the fewest tiles, whose KL (nats a row, against the model with dense
/// retrieval heads, label rows prefilled by tiles too) is at most `kl_target`. Throws Error where there are no shares.
CalibratedTileShare calibrate_tile_share(const Model& model, const SparseModel& sparse, int64_t num_samples,
                                         const std::function<ScoredSample(int64_t)>& sample,
                                         const std::vector<double>& tile_shares, double kl_target, int64_t chunk);

}  // namespace retrosparse
