#pragma once
#include <cstdint>

#include "model/planned_attention.h"
#include "ops/attention_plan.h"
#include "sparse/indexer.h"

namespace retrosparse {

/// What the kernels are told of a layer: its retrieval heads select, the others are local.
inline ops::AttentionPlan attention_plan(int64_t num_heads, const LayerIndexer& layer, LocalWindow local) {
  ops::AttentionPlan plan;
  plan.head_modes.assign(static_cast<size_t>(num_heads), kernels::HeadMode::kLocal);
  for (const int64_t head : layer.heads) {
    plan.head_modes[static_cast<size_t>(head)] = kernels::HeadMode::kSelected;
  }
  plan.sink_tokens = static_cast<int32_t>(local.sink_tokens);
  plan.window = static_cast<int32_t>(local.window);
  return plan;
}

}  // namespace retrosparse
