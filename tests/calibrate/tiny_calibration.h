#pragma once
#include <ATen/ATen.h>

#include "model/tiny_model.h"
#include "validate/selection_curve.h"

namespace retrosparse {

/// A tiny model with a head plan and an index, and random samples to calibrate it with.
class TinyCalibration {
 protected:
  TinyCalibration() {
    const ModelConfig config = write_tiny_checkpoint(folder_.path());
    sparse_.plan = {6, 2, {2, 16}, {{0, 4}, {}, {3}}};
    sparse_.indexer = Indexer::allocate(sparse_.plan, config.head_dim, 4, at::kCPU);
    sparse_.indexer.initialize_from_rope(config.head_dim, 0, 1);
    sparse_.selection = SelectionSettings::uniform(sparse_.plan, SelectionRule::kTopP, {});
  }

  static ScoredSample sample(int64_t index) {
    at::manual_seed(static_cast<uint64_t>(81 + index));
    const at::Tensor random = at::randint(61, {150}, at::kLong);
    ScoredSample scored{"random", {random.const_data_ptr<int64_t>(), random.const_data_ptr<int64_t>() + 150}, {}};
    for (const int64_t row : {120, 130, 148}) {
      scored.labels.rows.push_back(row);
      scored.labels.targets.push_back(scored.ids[static_cast<size_t>(row) + 1]);
    }
    return scored;
  }

  Model load() const { return Model::load(folder_.path(), at::kCPU, at::kFloat); }

  TemporaryFolder folder_;
  SparseModel sparse_;
};

}  // namespace retrosparse
