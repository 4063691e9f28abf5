#include "plan/hardware.h"

#include <gtest/gtest.h>

#include <set>

#include "base/testing.h"

namespace retrosparse {
namespace {

TEST(Hardware, KnownGpusArePlausible) {
  std::set<std::string> names;
  for (const Gpu& gpu : known_gpus()) {
    EXPECT_TRUE(names.insert(gpu.name).second) << gpu.name << " is listed twice";
    EXPECT_FALSE(gpu.source.empty()) << gpu.name;
    // Slips of a unit: no GPU so far lies outside these.
    EXPECT_GE(gpu.memory_bytes, 16e9) << gpu.name;
    EXPECT_LE(gpu.memory_bytes, 300e9) << gpu.name;
    EXPECT_GE(gpu.bytes_per_second, 200e9) << gpu.name;
    EXPECT_LE(gpu.bytes_per_second, 10e12) << gpu.name;
    EXPECT_GT(gpu.bf16_flops_per_second, gpu.fp32_flops_per_second) << gpu.name;
  }
  EXPECT_TRUE(names.contains("H200"));
}

TEST(Hardware, RefusesWhatItDoesNotUnderstand) {
  const std::string good =
      "gpus: [{name: X, memory_gb: 1, bandwidth_gb_s: 1, bf16_tflops: 1, fp32_tflops: 1, compute_capability: 9.0, "
      "source: y}]";
  EXPECT_EQ(parse_gpus(good, "x.yaml").size(), 1);
  const auto change = [&](std::string from, const std::string& to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  EXPECT_TRUE(contains(error_of([&] { parse_gpus(change("memory_gb", "memory_gbs"), "x.yaml"); }), "memory_gb"));
  EXPECT_TRUE(contains(error_of([&] { parse_gpus(change("bf16_tflops: 1", "bf16_tflops: 0"), "x.yaml"); }), "above 0"));
  EXPECT_TRUE(contains(error_of([&] { parse_gpus(change("source: y", "source: y, price: 2"), "x.yaml"); }), "price"));
}

}  // namespace
}  // namespace retrosparse
