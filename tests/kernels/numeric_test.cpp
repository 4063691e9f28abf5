#include "reference/numeric.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace retrosparse::kernels::reference {
namespace {

template <class T>
class SixteenBit : public testing::Test {};
using SixteenBitTypes = testing::Types<Float16, Bfloat16>;
TYPED_TEST_SUITE(SixteenBit, SixteenBitTypes);

TYPED_TEST(SixteenBit, EveryValueSurvivesTheWayToFloatAndBack) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const TypeParam value{static_cast<uint16_t>(bits)};
    const float wide = to_float(value);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(to_float(from_float<TypeParam>(wide)))) << bits;
    } else {
      EXPECT_EQ(from_float<TypeParam>(wide).bits, bits);
    }
  }
}

TYPED_TEST(SixteenBit, FiniteValuesAreInOrder) {
  for (uint16_t bits = 0; std::isfinite(to_float(TypeParam{bits})); ++bits) {
    EXPECT_LT(to_float(TypeParam{bits}), to_float(TypeParam{static_cast<uint16_t>(bits + 1)})) << bits;
  }
}

TYPED_TEST(SixteenBit, RoundsToTheNearestAndTiesToEven) {
  std::mt19937 generator(1);
  for (int i = 0; i < 200000; ++i) {
    // Two neighbours and a float between them, halfway every other time.
    const auto bits = static_cast<uint16_t>(generator() & 0x7fffu);
    const float low = to_float(TypeParam{bits});
    const float high = to_float(TypeParam{static_cast<uint16_t>(bits + 1)});
    if (!std::isfinite(low) || !std::isfinite(high)) {
      continue;
    }
    const float fraction = i % 2 == 0 ? 0.5f : std::uniform_real_distribution<float>(0, 1)(generator);
    const float value = low + (high - low) * fraction;
    const double to_low = static_cast<double>(value) - low;
    const double to_high = static_cast<double>(high) - value;
    const bool takes_low = to_low < to_high || (to_low == to_high && bits % 2 == 0);
    EXPECT_EQ(to_float(from_float<TypeParam>(value)), takes_low ? low : high) << value;
    EXPECT_EQ(to_float(from_float<TypeParam>(-value)), takes_low ? -low : -high) << -value;
  }
}

TEST(Numeric, OverflowGoesToInfinity) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(to_float(from_float<Float16>(65519.99f)), 65504.0f);
  EXPECT_EQ(to_float(from_float<Float16>(65520.0f)), infinity);
  EXPECT_EQ(to_float(from_float<Bfloat16>(std::numeric_limits<float>::max())), infinity);
  EXPECT_EQ(to_float(from_float<Float16>(-infinity)), -infinity);
  EXPECT_EQ(to_float(from_float<Bfloat16>(-infinity)), -infinity);
}

}  // namespace
}  // namespace retrosparse::kernels::reference
