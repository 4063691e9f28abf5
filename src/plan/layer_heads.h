#pragma once
#include <cstdint>
#include <vector>

#include "plan/conversion.h"

namespace retrosparse {

/// The heads of one layer, as numbers for formulas.
struct LayerHeads {
  double heads = 0;       ///< that retrieve: R
  double groups = 0;      ///< KV groups that hold one of them: Kr
  double local_sets = 0;  ///< grouped calls that the local heads take without our own kernels (PlannedAttention)
  double sets = 0;        ///< those of all heads
};

std::vector<LayerHeads> layer_heads(const ConversionPlan& plan);

/// The layer with the most retrieval heads, and the sums over all layers.
LayerHeads fullest(const std::vector<LayerHeads>& layers);
LayerHeads total(const std::vector<LayerHeads>& layers);

}  // namespace retrosparse
