#include "plan/layer_heads.h"

#include <algorithm>
#include <cmath>

namespace retrosparse {

std::vector<std::vector<int64_t>> assumed_heads(const ModelConfig& config, const Recipe::Plan& plan) {
  const int64_t num_heads = config.num_attention_heads, group_size = config.group_size();
  auto left =
      std::max<int64_t>(std::llround(plan.ratio * static_cast<double>(config.num_hidden_layers * num_heads)), 1);
  std::vector<std::vector<int64_t>> layers(static_cast<size_t>(config.num_hidden_layers));
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    int64_t count = std::min(num_heads, (2 * left + 2) / 3);
    if (plan.policy == HeadPolicy::kKvGroup) {
      count = (count + group_size - 1) / group_size * group_size;
    }
    for (int64_t head = 0; head < count; ++head) {
      layer->push_back(head);
    }
    left = std::max<int64_t>(left - count, 0);
  }
  for (auto layer = layers.begin(); left > 0 && layer != layers.end(); ++layer) {  // what the rounds above left over
    while (left > 0 && static_cast<int64_t>(layer->size()) < num_heads) {
      layer->push_back(static_cast<int64_t>(layer->size()));
      --left;
    }
  }
  return layers;
}

std::vector<LayerHeads> layer_heads(const ConversionPlan& plan) {
  const int64_t num_groups = plan.config.num_key_value_heads, group_size = plan.config.group_size();
  std::vector<LayerHeads> layers;
  for (const std::vector<int64_t>& heads : plan.retrieval_heads) {
    LayerHeads& layer = layers.emplace_back();
    layer.heads = static_cast<double>(heads.size());
    int64_t retrieving_before = 0, local_before = 0;  // heads of either kind in the group before
    for (int64_t group = 0; group < num_groups; ++group) {
      const int64_t retrieving = std::ranges::count_if(heads, [&](int64_t head) { return head / group_size == group; });
      const int64_t local = group_size - retrieving;
      layer.groups += retrieving > 0 ? 1 : 0;
      layer.local_sets += local > 0 && local != local_before ? 1 : 0;
      layer.sets += retrieving > 0 && retrieving != retrieving_before ? 1 : 0;
      retrieving_before = retrieving;
      local_before = local;
    }
    layer.sets += layer.local_sets;
  }
  return layers;
}

LayerHeads fullest(const std::vector<LayerHeads>& layers) {
  return *std::ranges::max_element(layers, {}, &LayerHeads::heads);
}

LayerHeads total(const std::vector<LayerHeads>& layers) {
  LayerHeads sum;
  for (const LayerHeads& layer : layers) {
    sum.heads += layer.heads;
    sum.groups += layer.groups;
    sum.local_sets += layer.local_sets;
    sum.sets += layer.sets;
  }
  return sum;
}

}  // namespace retrosparse
