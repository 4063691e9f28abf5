#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "validate/selection_curve.h"

namespace retrosparse {

/// What calibration may choose from.
struct GateSearch {
  std::vector<double> p{0.5, 0.7, 0.8, 0.9, 0.95};
  std::vector<int64_t> min_tokens{16, 64, 256};
  std::vector<int64_t> max_tokens{256, 512, 1024};
  double kl_target = 5e-3;  ///< nats a row, against the model with dense retrieval heads
  int64_t tail_block = 0;   ///< of all settings; see SelectionSettings
  int64_t head_rounds = 2;  ///< times that single heads are tried with half their tokens; 0: one setting for all
};

/// The settings that calibration chose, and everything that it measured on the way.
struct CalibratedGates {
  CurvePoint chosen;
  bool target_met = false;  ///< false: the chosen point is the one of lowest KL
  LabelScores dense_retrieval;
  std::vector<CurvePoint> curve;    ///< uniform settings, in the order of the search
  std::vector<CurvePoint> by_head;  ///< chosen settings after each accepted round of single-head reductions
};

/// Finds the fewest far tokens whose KL stays under the target: first one setting for all heads from the grid (p,
/// min_tokens <= max_tokens), then, for `head_rounds` rounds, heads one by one with half the floor and cap where that
/// costs least KL a saved token, as long as the whole stays under the target. The share of the mass that is kept would
/// be a poor target: top-256 keeps .65 of it and loses nothing. Throws Error for an empty grid.
CalibratedGates calibrate_gates(const Model& model, const SparseModel& sparse, int64_t num_samples,
                                const std::function<ScoredSample(int64_t)>& sample, const GateSearch& search,
                                int64_t chunk);

}  // namespace retrosparse
