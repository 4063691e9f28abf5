#include "calibrate/tile_share.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "calibrate/tiny_calibration.h"

namespace retrosparse {
namespace {

class CalibrateTileShareTest : public testing::Test, protected TinyCalibration {
 protected:
  CalibratedTileShare calibrate(double kl_target, const std::vector<double>& shares = {0.1, 1, 0.03, 0.003}) {
    return calibrate_tile_share(load(), sparse_, 2, sample, shares, kl_target, 64);
  }
};

TEST_F(CalibrateTileShareTest, ChoosesTheLargestShareUnderTheTarget) {
  const std::vector<TilePoint> curve = calibrate(1).curve;
  for (const TilePoint& target : curve) {
    const CalibratedTileShare tiles = calibrate(target.kl());
    EXPECT_TRUE(tiles.target_met);
    for (const TilePoint& point : tiles.curve) {
      EXPECT_TRUE(point.kl() > target.kl() || point.tile_share <= tiles.chosen.tile_share);
    }
    EXPECT_LE(tiles.chosen.kl(), target.kl());
  }
}

TEST_F(CalibrateTileShareTest, FallsBackToTheLowestKl) {
  const CalibratedTileShare tiles = calibrate(-1);
  EXPECT_FALSE(tiles.target_met);
  for (const TilePoint& point : tiles.curve) {
    EXPECT_GE(point.kl(), tiles.chosen.kl());
  }
}

TEST_F(CalibrateTileShareTest, NoSharesAreAnError) {
  EXPECT_THROW(calibrate(1, {}), Error);
}

}  // namespace
}  // namespace retrosparse
