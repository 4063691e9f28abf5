#include "calibrate/gates.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/tiny_model.h"

namespace retrosparse {
namespace {

class CalibrateGatesTest : public testing::Test {
 protected:
  CalibrateGatesTest() {
    const ModelConfig config = write_tiny_checkpoint(folder_.path());
    sparse_.plan = {6, 2, {2, 16}, {{0, 4}, {}, {3}}};
    sparse_.indexer = Indexer::allocate(sparse_.plan, config.head_dim, 4, at::kCPU);
    sparse_.indexer.initialize_from_rope(config.head_dim, 0, 1);
    sparse_.selection = SelectionSettings::uniform(sparse_.plan, SelectionRule::kTopP, {});
    search_.p = {0.5, 0.9};
    search_.min_tokens = {4, 32};
    search_.max_tokens = {8, 128};
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

  CalibratedGates calibrate(double kl_target) {
    search_.kl_target = kl_target;
    const Model model = Model::load(folder_.path(), at::kCPU, at::kFloat);
    return calibrate_gates(model, sparse_, 2, sample, search_, 64);
  }

  TemporaryFolder folder_;
  SparseModel sparse_;
  GateSearch search_;
};

TEST_F(CalibrateGatesTest, MoreToleranceNeverTakesMoreTokens) {
  double tokens = 1e9;
  for (const double target : {1e-4, 1e-2, 1.0, 100.0}) {
    const CalibratedGates gates = calibrate(target);
    EXPECT_EQ(gates.curve.size(), 6U);  // floor 32 does not fit under cap 8
    EXPECT_EQ(gates.chosen.scores.rows, 6);
    EXPECT_EQ(gates.target_met, gates.chosen.kl() <= target);
    if (gates.target_met) {
      EXPECT_LE(gates.chosen.far_tokens(), tokens);
      tokens = gates.chosen.far_tokens();
      for (const CurvePoint& point : gates.curve) {
        EXPECT_TRUE(point.kl() > target || point.far_tokens() >= gates.chosen.far_tokens());
      }
    } else {
      for (const CurvePoint& point : gates.curve) {
        EXPECT_GE(point.kl(), gates.chosen.kl());
      }
    }
  }
  EXPECT_LT(tokens, 4) << "with all the tolerance in the world heads go below the smallest floor of the grid";
}

TEST_F(CalibrateGatesTest, AnEmptyGridIsAnError) {
  search_.max_tokens = {2};
  EXPECT_THROW(calibrate(1), Error);
}

}  // namespace
}  // namespace retrosparse
