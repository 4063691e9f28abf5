#include "validate/generation_speed.h"

#include <gtest/gtest.h>

namespace retrosparse {
namespace {

TEST(GenerationSpeed, TakesMediansOfRunsInTurns) {
  std::vector<int> order;
  const auto model = [&](int name, std::vector<double> seconds) {
    return [&order, name, seconds, run = size_t{0}](at::IntArrayRef prompt, int64_t new_tokens) mutable {
      EXPECT_EQ(prompt.size(), 100U);
      EXPECT_EQ(new_tokens, 11);
      order.push_back(name);
      const double taken = seconds.at(run++);
      return GenerateTimes{taken, 2 * taken};
    };
  };
  const std::vector<int64_t> prompt(100, 7);
  const auto speeds = generation_speeds({model(1, {1, 9, 2}), model(2, {4, 5, 50})}, prompt, 11, 3);
  EXPECT_EQ(order, (std::vector<int>{1, 2, 1, 2, 1, 2}));
  ASSERT_EQ(speeds.size(), 2U);
  EXPECT_DOUBLE_EQ(speeds[0].prefill, 100.0 / 2);
  EXPECT_DOUBLE_EQ(speeds[0].decode, 10.0 / 4);
  EXPECT_DOUBLE_EQ(speeds[1].prefill, 100.0 / 5);
  EXPECT_DOUBLE_EQ(speeds[1].decode, 10.0 / 10);
}

}  // namespace
}  // namespace retrosparse
