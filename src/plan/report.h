#pragma once
#include <cstdint>
#include <vector>

#include "plan/cost.h"
#include "plan/hardware.h"

namespace retrosparse {

/// What one sequence of a given length costs, with the model's own full attention and made sparse.
struct LengthCost {
  int64_t tokens = 0;
  double kv_dense = 0, kv_sparse = 0, kv_worst = 0;  ///< bytes; sparse: Spread::kRandom, worst: Spread::kWorst
  double index = 0, index_worst = 0;                 ///< bytes of the index keys beside kv_sparse and kv_worst
  Work prefill_dense, prefill_sparse;
  Work decode_dense, decode_sparse;
};

/// How a model fits on GPUs of one kind.
struct GpuFit {
  const Gpu* gpu = nullptr;
  int64_t count =
      0;  ///< the smallest power of two that holds weights and 4,096 tokens of dense KV cache; 0: over 1,024
  double tokens_dense = 0, tokens_sparse = 0;  ///< in the cache beside the weights on that many
};

/// Everything that `plan` says.
struct CostReport {
  ParameterCounts parameters;
  double element_size = 0;  ///< bytes of a weight, a cached value and an index value
  double weight_bytes = 0;
  double full_group_share = 0, full_group_share_worst = 0;  ///< of all key/value heads
  AttentionShape dense, sparse, worst;
  std::vector<LengthCost> lengths;
  std::vector<GpuFit> gpus;
};

/// Of a GPU's memory, what weights and caches may take; the rest is for activations and the driver.
inline constexpr double kUsableMemory = 0.9;

CostReport report_cost(const ModelConfig& config, const SparseOptions& options, const std::vector<int64_t>& lengths,
                       double element_size, const std::vector<Gpu>& gpus);

}  // namespace retrosparse
