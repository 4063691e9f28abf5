#include "train/learning_rate.h"

#include <gtest/gtest.h>

namespace retrosparse {
namespace {

TEST(LearningRate, RisesOverTheWarmUp) {
  for (const Schedule schedule : {Schedule::kConstant, Schedule::kLinear, Schedule::kCosine}) {
    const LearningRate rate{2, 10, schedule};
    EXPECT_DOUBLE_EQ(rate.at(0, 100), 0.2) << name_of(schedule);
    EXPECT_DOUBLE_EQ(rate.at(4, 100), 1) << name_of(schedule);
    EXPECT_DOUBLE_EQ(rate.at(9, 100), 2) << name_of(schedule);
    EXPECT_DOUBLE_EQ(rate.at(10, 100), 2) << name_of(schedule);
    EXPECT_DOUBLE_EQ((LearningRate{2, 0, schedule}.at(0, 1)), 2) << "no warm-up, one step: " << name_of(schedule);
  }
}

TEST(LearningRate, FallsAsTheScheduleSays) {
  const LearningRate constant{2, 10, Schedule::kConstant}, linear{2, 10, Schedule::kLinear},
      cosine{2, 10, Schedule::kCosine};
  EXPECT_DOUBLE_EQ(constant.at(1000, 100), 2);
  EXPECT_DOUBLE_EQ(linear.at(55, 100), 1);
  EXPECT_DOUBLE_EQ(linear.at(100, 100), 0);
  EXPECT_NEAR(cosine.at(55, 100), 1, 1e-12);
  EXPECT_NEAR(cosine.at(100, 100), 0, 1e-12);
  EXPECT_GT(cosine.at(30, 100), linear.at(30, 100));
  EXPECT_LT(cosine.at(80, 100), linear.at(80, 100));
}

TEST(LearningRate, ShorterThanItsWarmUp) {
  const LearningRate rate{1, 10, Schedule::kCosine};
  for (int64_t step = 0; step < 5; ++step) {
    EXPECT_DOUBLE_EQ(rate.at(step, 5), static_cast<double>(step + 1) / 10);
  }
}

}  // namespace
}  // namespace retrosparse
