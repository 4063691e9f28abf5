#include "bench/random_layer.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace retrosparse::bench {

at::Tensor normal(at::IntArrayRef sizes) {
  return at::randn(sizes, at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16));
}

DecodeLayer::DecodeLayer(const LayerShape& shape, int64_t batch, int64_t tokens, bool with_values) {
  const auto heads = static_cast<int64_t>(shape.retrieval_heads.size());
  const auto groups = static_cast<int64_t>(shape.retrieval_groups().size());
  const int64_t kept = with_values ? tokens : 1;
  input.q = normal({batch, 1, shape.num_heads, shape.head_dim});
  // The selection alone looks at the shape of the cache only.
  input.k = normal({batch, kept, shape.num_key_value_heads, shape.head_dim}).expand({batch, tokens, -1, -1});
  input.v = normal({batch, kept, shape.num_key_value_heads, shape.head_dim}).expand({batch, tokens, -1, -1});
  input.key_counts = at::full({batch}, tokens, input.q.options().dtype(at::kInt));
  input.softmax_scale = shape.softmax_scale();
  input.max_keys = tokens;
  const at::TensorOptions floats = input.q.options().dtype(at::kFloat);
  selection.queries = at::randn({batch, 1, heads, kernels::kIndexDim}, floats) * 0.5;
  selection.gates = at::zeros({batch, 1, heads}, floats);
  selection.keys = normal({batch, groups, tokens, kernels::kIndexDim});
  selection.rules.assign(shape.retrieval_heads.size(), {0.9f, 64, 1024});
}

int64_t layers_of(double bytes) {
  constexpr double kEnough = 4e9;
  return std::clamp<int64_t>(static_cast<int64_t>(kEnough / bytes), 2, 24);
}

}  // namespace retrosparse::bench
