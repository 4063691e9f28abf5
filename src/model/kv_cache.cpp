#include "model/kv_cache.h"

#include <ATen/ops/empty.h>

#include <algorithm>

namespace retrosparse {

KvCache::KvCache(int64_t num_layers, int64_t num_key_value_heads, int64_t head_dim, at::TensorOptions options)
    : num_key_value_heads_(num_key_value_heads),
      head_dim_(head_dim),
      options_(options),
      layers_(static_cast<size_t>(num_layers)) {}

void KvCache::grow(Layer& layer, int64_t capacity) const {
  at::Tensor keys = at::empty({capacity, num_key_value_heads_, head_dim_}, options_);
  at::Tensor values = at::empty_like(keys);
  if (layer.length > 0) {
    keys.narrow(0, 0, layer.length).copy_(layer.keys.narrow(0, 0, layer.length));
    values.narrow(0, 0, layer.length).copy_(layer.values.narrow(0, 0, layer.length));
  }
  layer.keys = keys;
  layer.values = values;
}

void KvCache::reserve(int64_t num_tokens) {
  for (Layer& layer : layers_) {
    if (!layer.keys.defined() || layer.keys.size(0) < num_tokens) {
      grow(layer, num_tokens);
    }
  }
}

KvCache::Tokens KvCache::append(int64_t layer_index, const at::Tensor& keys, const at::Tensor& values) {
  Layer& layer = layers_.at(static_cast<size_t>(layer_index));
  const int64_t new_length = layer.length + keys.size(0);
  const int64_t capacity = layer.keys.defined() ? layer.keys.size(0) : 0;
  if (new_length > capacity) {
    grow(layer, std::max(new_length, 2 * capacity));
  }
  layer.keys.narrow(0, layer.length, keys.size(0)).copy_(keys);
  layer.values.narrow(0, layer.length, keys.size(0)).copy_(values);
  layer.length = new_length;
  return {layer.keys.narrow(0, 0, new_length), layer.values.narrow(0, 0, new_length)};
}

void KvCache::truncate(int64_t length) {
  for (Layer& layer : layers_) {
    layer.length = std::min(layer.length, length);
  }
}

uint64_t KvCache::bytes() const {
  uint64_t total = 0;
  for (const Layer& layer : layers_) {
    if (layer.keys.defined()) {
      total += layer.keys.nbytes() + layer.values.nbytes();
    }
  }
  return total;
}

}  // namespace retrosparse
