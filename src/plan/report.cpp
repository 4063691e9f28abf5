#include "plan/report.h"

namespace retrosparse {
namespace {

LengthCost cost_of_length(const ModelConfig& config, const CostReport& report, int64_t tokens) {
  const auto length = static_cast<double>(tokens);
  const double size = report.element_size;
  LengthCost cost;
  cost.tokens = tokens;
  cost.kv_dense = kv_cache_bytes(config, report.dense, length, size);
  cost.kv_sparse = kv_cache_bytes(config, report.sparse, length, size);
  cost.kv_worst = kv_cache_bytes(config, report.worst, length, size);
  cost.index = index_cache_bytes(report.sparse, length, size);
  cost.index_worst = index_cache_bytes(report.worst, length, size);
  cost.prefill_dense = prefill_work(config, report.dense, length, size);
  cost.prefill_sparse = prefill_work(config, report.sparse, length, size);
  cost.decode_dense = decode_work(config, report.dense, length, size);
  cost.decode_sparse = decode_work(config, report.sparse, length, size);
  return cost;
}

GpuFit fit(const ModelConfig& config, const CostReport& report, const Gpu& gpu) {
  constexpr int64_t kMostGpus = 1024;
  constexpr double kLeastTokens = 4096;
  const double least = report.weight_bytes + kv_cache_bytes(config, report.dense, kLeastTokens, report.element_size);
  GpuFit result;
  result.gpu = &gpu;
  for (int64_t count = 1; count <= kMostGpus && result.count == 0; count *= 2) {
    const double usable = static_cast<double>(count) * gpu.memory_bytes * kUsableMemory;
    if (usable >= least) {
      result.count = count;
      result.tokens_dense = tokens_in(config, report.dense, report.element_size, usable - report.weight_bytes);
      result.tokens_sparse = tokens_in(config, report.sparse, report.element_size, usable - report.weight_bytes);
    }
  }
  return result;
}

}  // namespace

CostReport report_cost(const ModelConfig& config, const SparseOptions& options, const std::vector<int64_t>& lengths,
                       double element_size, const std::vector<Gpu>& gpus) {
  CostReport report;
  report.parameters = count_parameters(config);
  report.element_size = element_size;
  report.weight_bytes = report.parameters.total() * element_size;
  report.dense = dense_shape(config);
  report.sparse = sparse_shape(config, options, Spread::kRandom);
  report.worst = sparse_shape(config, options, Spread::kWorst);
  report.full_group_share = report.sparse.full_groups / report.dense.full_groups;
  report.full_group_share_worst = report.worst.full_groups / report.dense.full_groups;
  for (const int64_t tokens : lengths) {
    report.lengths.push_back(cost_of_length(config, report, tokens));
  }
  for (const Gpu& gpu : gpus) {
    report.gpus.push_back(fit(config, report, gpu));
  }
  return report;
}

}  // namespace retrosparse
