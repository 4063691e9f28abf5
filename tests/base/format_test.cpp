#include "base/format.h"

#include <gtest/gtest.h>

namespace retrosparse {
namespace {

TEST(Format, Bytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1 KiB");
  EXPECT_EQ(format_bytes(1.5 * (1 << 30)), "1.5 GiB");
  EXPECT_EQ(format_bytes(1024 * 1024 - 1), "1 MiB") << "not 1024 KiB";
  EXPECT_EQ(format_bytes(150e12), "136 TiB");
}

TEST(Format, Counts) {
  EXPECT_EQ(format_count(950), "950");
  EXPECT_EQ(format_count(999.7), "1K") << "not 1000";
  EXPECT_EQ(format_count(12'786'000), "12.8M");
  EXPECT_EQ(format_count(30'532'122'624), "30.5B");
  EXPECT_EQ(format_count(8e9), "8B");
  EXPECT_EQ(format_count(999'960'000), "1B") << "not 1000M";
}

TEST(Format, Durations) {
  EXPECT_EQ(format_duration(0), "0.0 s");
  EXPECT_EQ(format_duration(0.84), "0.8 s");
  EXPECT_EQ(format_duration(42.4), "42 s");
  EXPECT_EQ(format_duration(59.6), "1 m 0 s");
  EXPECT_EQ(format_duration(200), "3 m 20 s");
  EXPECT_EQ(format_duration(5 * 3600 + 7 * 60 + 9), "5 h 7 m");
  EXPECT_EQ(format_duration(2 * 86400 + 4 * 3600), "2 d 4 h");
}

}  // namespace
}  // namespace retrosparse
