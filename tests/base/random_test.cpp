#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>

namespace retrosparse {
namespace {

TEST(Random, IsTheSameEverywhere) {
  // A saved state of training is only good if these numbers never change.
  Random random{1, 2};
  const uint64_t first = random.next();
  EXPECT_EQ(first, (Random{1, 2}).next());
  std::set<uint64_t> firsts;
  for (uint64_t a = 0; a < 50; ++a) {
    for (uint64_t b = 0; b < 50; ++b) {
      firsts.insert(Random{a, b}.next());
    }
    firsts.insert(Random{a}.next());
  }
  EXPECT_EQ(firsts.size(), 50u * 50 + 50) << "each list of seeds has a stream of its own";
}

TEST(Random, SeedOfANameIsFnv1a) {
  // From the test vectors of draft-eastlake-fnv.
  EXPECT_EQ(seed_of(""), 0xcbf29ce484222325u);
  EXPECT_EQ(seed_of("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(seed_of("foobar"), 0x85944171f73967e8u);
}

TEST(Random, BelowIsUniform) {
  Random random{7};
  constexpr int kBins = 10, kDraws = 100'000;
  std::array<int, kBins> counts{};
  for (int i = 0; i < kDraws; ++i) {
    ++counts[random.below(kBins)];
  }
  double chi_square = 0;
  for (const int count : counts) {
    const double difference = count - kDraws / kBins;
    chi_square += difference * difference / (kDraws / kBins);
  }
  EXPECT_LT(chi_square, 27.9) << "0.999 quantile of chi-square with 9 degrees of freedom";
  // Of a bound just above 2^63 nearly half of all numbers have to be drawn again.
  for (int i = 0; i < 1000; ++i) {
    EXPECT_LT(random.below((uint64_t{1} << 63) + 1), (uint64_t{1} << 63) + 1);
  }
  EXPECT_EQ(random.below(1), 0u);
}

TEST(Random, BetweenIncludesBothEnds) {
  Random random{7};
  std::set<int64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    seen.insert(random.between(-2, 3));
  }
  EXPECT_EQ(seen, (std::set<int64_t>{-2, -1, 0, 1, 2, 3}));
  EXPECT_EQ(random.between(5, 5), 5);
  random.between(INT64_MIN, INT64_MAX);
}

TEST(Random, UniformIsBelowOne) {
  Random random{7};
  double sum = 0, highest = 0;
  for (int i = 0; i < 100'000; ++i) {
    const double x = random.uniform();
    ASSERT_GE(x, 0);
    ASSERT_LT(x, 1);
    sum += x;
    highest = std::max(highest, x);
  }
  EXPECT_NEAR(sum / 100'000, 0.5, 0.005);
  EXPECT_GT(highest, 0.999);
}

TEST(Random, ShuffleReachesEveryOrder) {
  Random random{7};
  std::set<std::vector<int>> orders;
  for (int i = 0; i < 1000; ++i) {
    std::vector<int> numbers{1, 2, 3, 4};
    random.shuffle(numbers);
    orders.insert(numbers);
  }
  EXPECT_EQ(orders.size(), 24u);
}

}  // namespace
}  // namespace retrosparse
