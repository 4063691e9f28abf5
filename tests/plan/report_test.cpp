#include "plan/report.h"

#include <gtest/gtest.h>

#include "plan/small_config.h"

namespace retrosparse {
namespace {

constexpr double kFloat = 4;

// GPUs on which the small model and 4,096 tokens of its cache fill `share` of the usable memory of one.
Gpu gpu_filled(double share) {
  const ModelConfig config = small_config();
  const double needed =
      count_parameters(config).total() * kFloat + kv_cache_bytes(config, dense_shape(config), 4096, kFloat);
  return {"X", needed / share / kUsableMemory, 1e9, 1e12, 1e12, "made up"};
}

TEST(Report, TakesTheFewestGpusThatFit) {
  const std::vector<Gpu> gpus = {gpu_filled(0.5), gpu_filled(0.999), gpu_filled(1.001), gpu_filled(3),
                                 gpu_filled(5000)};
  const CostReport report = report_cost(small_config(), {}, {100}, kFloat, gpus);
  std::vector<int64_t> counts;
  for (const GpuFit& fit : report.gpus) {
    counts.push_back(fit.count);
  }
  EXPECT_EQ(counts, (std::vector<int64_t>{1, 1, 2, 4, 0}));
}

TEST(Report, CacheFillsWhatTheWeightsLeave) {
  const ModelConfig config = small_config();
  const std::vector<Gpu> gpus = {gpu_filled(0.999)};
  const CostReport report = report_cost(config, {}, {100}, kFloat, gpus);
  const double usable = gpus.front().memory_bytes * kUsableMemory;
  const double tokens = report.gpus.front().tokens_dense;
  EXPECT_GE(tokens, 4096);
  EXPECT_LE(report.weight_bytes + kv_cache_bytes(config, report.dense, tokens, kFloat), usable);
  EXPECT_GT(report.weight_bytes + kv_cache_bytes(config, report.dense, tokens + 1, kFloat), usable);
}

TEST(Report, SparseNeverCostsMoreThanDenseButForTheIndex) {
  const CostReport report = report_cost(small_config(), {.window = 100}, {50, 200, 100000}, kFloat, {});
  for (const LengthCost& cost : report.lengths) {
    EXPECT_LE(cost.kv_sparse, cost.kv_worst);
    EXPECT_LE(cost.kv_worst, cost.kv_dense);
    EXPECT_LE(cost.decode_sparse.bytes, cost.decode_dense.bytes + cost.index);
  }
  EXPECT_LT(report.lengths.back().decode_sparse.bytes, report.lengths.back().decode_dense.bytes);
  EXPECT_LT(report.full_group_share, report.full_group_share_worst);
}

}  // namespace
}  // namespace retrosparse
