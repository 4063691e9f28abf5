#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "validate/tile_curve.h"

namespace retrosparse {

/// What calibration may choose from.
struct TileSearch {
  std::vector<double> tile_shares;
  double kl_target = 12e-3;  ///< nats a row, against the model with dense retrieval heads
  int64_t head_rounds = 0;   ///< times that single heads are tried with twice the share; 0: one share for all
};

/// The settings that calibration chose, and everything that it measured on the way.
struct CalibratedTiles {
  TilePoint chosen;
  bool target_met = false;         ///< false: the chosen point is the one of lowest KL
  std::vector<TilePoint> curve;    ///< one share for all heads, in the order of the search
  std::vector<TilePoint> by_head;  ///< chosen settings after each accepted round of single-head changes
};

/// Finds the fewest tiles whose KL stays under the target, label rows prefilled by tiles too: first one share for all
/// heads, then, for `head_rounds` rounds, heads one by one with twice the share where that costs least KL a saved tile,
/// as long as the whole stays under the target. Throws Error where there are no shares.
CalibratedTiles calibrate_tiles(const Model& model, const SparseModel& sparse, int64_t num_samples,
                                const std::function<ScoredSample(int64_t)>& sample, const TileSearch& search,
                                int64_t chunk);

}  // namespace retrosparse
