#include "sparse/head_plan.h"

#include <fmt/format.h>

#include "base/error.h"

namespace retrosparse {

std::vector<HeadWindows> HeadPlan::windows() const {
  std::vector<HeadWindows> layers;
  for (const std::vector<int64_t>& retrieval : retrieval_heads) {
    HeadWindows heads(static_cast<size_t>(num_attention_heads), local);
    for (const int64_t head : retrieval) {
      heads[static_cast<size_t>(head)] = std::nullopt;
    }
    layers.push_back(std::move(heads));
  }
  return layers;
}

std::vector<int64_t> HeadPlan::groups(int64_t layer) const {
  const int64_t group_size = num_attention_heads / num_key_value_heads;
  std::vector<int64_t> groups;
  for (const int64_t head : retrieval_heads.at(static_cast<size_t>(layer))) {
    if (groups.empty() || groups.back() != head / group_size) {
      groups.push_back(head / group_size);
    }
  }
  return groups;
}

int64_t HeadPlan::num_retrieval_heads() const {
  int64_t count = 0;
  for (const std::vector<int64_t>& heads : retrieval_heads) {
    count += static_cast<int64_t>(heads.size());
  }
  return count;
}

void HeadPlan::check(const ModelConfig& config) const {
  const auto differs = [](const char* what, int64_t expected, int64_t found) {
    return Error(fmt::format("the head plan is of another model: {}", what))
        .expected(std::to_string(expected))
        .found(std::to_string(found));
  };
  if (static_cast<int64_t>(retrieval_heads.size()) != config.num_hidden_layers) {
    throw differs("layers", config.num_hidden_layers, static_cast<int64_t>(retrieval_heads.size()));
  }
  if (num_attention_heads != config.num_attention_heads) {
    throw differs("query heads", config.num_attention_heads, num_attention_heads);
  }
  if (num_key_value_heads != config.num_key_value_heads) {
    throw differs("key/value heads", config.num_key_value_heads, num_key_value_heads);
  }
  for (size_t layer = 0; layer < retrieval_heads.size(); ++layer) {
    int64_t previous = -1;
    for (const int64_t head : retrieval_heads[layer]) {
      if (head <= previous || head >= num_attention_heads) {
        throw Error(fmt::format("layer {}: not a list of retrieval heads", layer))
            .expected(fmt::format("ascending heads from 0 to {}", num_attention_heads - 1))
            .found(fmt::format("{} after {}", head, previous));
      }
      previous = head;
    }
  }
}

}  // namespace retrosparse
