#pragma once
#include <cstdint>
#include <vector>

#include "model/config.h"
#include "model/planned_attention.h"

namespace retrosparse {

/// Which query heads keep the whole context (the retrieval heads) and what the others, the local heads, see.
struct HeadPlan {
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  LocalWindow local;                                  ///< sinks and window, also of the retrieval heads' exact part
  std::vector<std::vector<int64_t>> retrieval_heads;  ///< [layer], ascending query heads

  /// Every layer's heads as the forward pass wants them: retrieval heads dense, the others local.
  std::vector<HeadWindows> windows() const;

  /// KV groups of a layer that hold a retrieval head, ascending: those whose full keys and values are kept.
  std::vector<int64_t> groups(int64_t layer) const;

  int64_t num_retrieval_heads() const;  ///< all layers

  /// Throws Error naming layer and head where the plan does not fit the model: another number of layers or heads, a
  /// head out of range, given twice or not in ascending order.
  void check(const ModelConfig& config) const;
};

}  // namespace retrosparse
