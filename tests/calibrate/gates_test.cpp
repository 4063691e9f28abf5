#include "calibrate/gates.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "calibrate/tiny_calibration.h"

namespace retrosparse {
namespace {

class CalibrateGatesTest : public testing::Test, protected TinyCalibration {
 protected:
  CalibrateGatesTest() {
    search_.p = {0.5, 0.9};
    search_.min_tokens = {4, 32};
    search_.max_tokens = {8, 128};
  }

  CalibratedGates calibrate(double kl_target) {
    search_.kl_target = kl_target;
    return calibrate_gates(load(), sparse_, 2, sample, search_, 64);
  }

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
