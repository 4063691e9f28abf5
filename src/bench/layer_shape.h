#pragma once
#include <string>

#include "ops/attention_plan.h"

namespace retrosparse::bench {

/// The attention of one layer: how many heads of which kind.
struct LayerShape {
  std::string name;
  int64_t num_heads = 0, num_key_value_heads = 0, head_dim = 0;
  std::vector<int32_t> retrieval_heads;  ///< ascending
  int32_t sink_tokens = 4;
  int32_t window = 8192;

  /// All heads as `others`, the retrieval heads as `retrieval`.
  ops::AttentionPlan plan(kernels::HeadMode others, kernels::HeadMode retrieval) const;
  /// KV groups that hold a retrieval head, ascending.
  std::vector<int32_t> retrieval_groups() const;
  double softmax_scale() const;
};

/// "A": 32 query / 4 KV heads (Qwen3-Coder-30B-A3B), "B": 32 / 8 (Llama-3.1-8B); both head_dim 128, 5 retrieval heads.
/// Throws Error for another name.
LayerShape layer_shape(const std::string& name);

}  // namespace retrosparse::bench
