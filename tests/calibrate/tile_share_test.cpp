#include "calibrate/tile_share.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "calibrate/tiny_calibration.h"

namespace retrosparse {
namespace {

class CalibrateTileShareTest : public testing::Test, protected TinyCalibration {
 protected:
  CalibratedTiles calibrate(double kl_target, int64_t head_rounds = 0,
                            const std::vector<double>& shares = {0.1, 1, 0.03, 0.003}) {
    return calibrate_tiles(load(), sparse_, 2, sample, {shares, kl_target, head_rounds}, 64);
  }
};

TEST_F(CalibrateTileShareTest, ChoosesTheLargestShareUnderTheTarget) {
  const std::vector<TilePoint> curve = calibrate(1).curve;
  for (const TilePoint& target : curve) {
    const CalibratedTiles tiles = calibrate(target.kl());
    EXPECT_TRUE(tiles.target_met);
    for (const TilePoint& point : tiles.curve) {
      EXPECT_TRUE(point.kl() > target.kl() || point.prefill.tile_share <= tiles.chosen.prefill.tile_share);
    }
    EXPECT_LE(tiles.chosen.kl(), target.kl());
  }
}

TEST_F(CalibrateTileShareTest, FallsBackToTheLowestKl) {
  const CalibratedTiles tiles = calibrate(-1);
  EXPECT_FALSE(tiles.target_met);
  for (const TilePoint& point : tiles.curve) {
    EXPECT_GE(point.kl(), tiles.chosen.kl());
  }
}

TEST_F(CalibrateTileShareTest, SingleHeadsGetByWithFewerTilesUnderTheSameTarget) {
  const CalibratedTiles uniform = calibrate(1, 0, {0.03});
  const double target = 4 * uniform.chosen.kl();
  const CalibratedTiles tiles = calibrate(target, 3, {0.03});
  ASSERT_FALSE(tiles.by_head.empty());
  EXPECT_EQ(tiles.chosen.prefill, tiles.by_head.back().prefill);
  EXPECT_LE(tiles.chosen.kl(), target);
  double density = uniform.chosen.counts.density();
  for (const TilePoint& point : tiles.by_head) {
    EXPECT_LT(point.counts.density(), density);
    density = point.counts.density();
    for (size_t layer = 0; layer < point.prefill.tile_shares.size(); ++layer) {
      EXPECT_EQ(point.prefill.tile_shares[layer].size(), sparse_.plan.retrieval_heads[layer].size());
    }
  }
}

TEST_F(CalibrateTileShareTest, NoSharesAreAnError) {
  EXPECT_THROW(calibrate(1, 0, {}), Error);
}

}  // namespace
}  // namespace retrosparse
