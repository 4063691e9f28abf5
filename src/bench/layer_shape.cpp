#include "bench/layer_shape.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace retrosparse::bench {

ops::AttentionPlan LayerShape::plan(kernels::HeadMode others, kernels::HeadMode retrieval) const {
  ops::AttentionPlan plan;
  plan.head_modes.assign(static_cast<size_t>(num_heads), others);
  for (const int32_t head : retrieval_heads) {
    plan.head_modes[static_cast<size_t>(head)] = retrieval;
  }
  plan.sink_tokens = sink_tokens;
  plan.window = window;
  return plan;
}

std::vector<int32_t> LayerShape::retrieval_groups() const {
  std::vector<int32_t> groups;
  for (const int32_t head : retrieval_heads) {
    groups.push_back(head / static_cast<int32_t>(num_heads / num_key_value_heads));
  }
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  return groups;
}

double LayerShape::softmax_scale() const {
  return 1 / std::sqrt(static_cast<double>(head_dim));
}

LayerShape layer_shape(const std::string& name) {
  if (name == "A") {
    return {name, 32, 4, 128, {3, 4, 12, 20, 29}};
  }
  if (name == "B") {
    return {name, 32, 8, 128, {0, 1, 13, 28, 30}};
  }
  throw Error("no such layer shape").expected("A or B").found(name);
}

}  // namespace retrosparse::bench
