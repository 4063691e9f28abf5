#include "model/model.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "model/dense_attention.h"
#include "model/experts.h"
#include "model/tensor_match.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"

namespace retrosparse {
namespace {

at::Tensor ids_on_device(at::IntArrayRef ids, int64_t vocab_size, at::Device device) {
  const auto outside = std::ranges::find_if(ids, [&](int64_t id) { return id < 0 || id >= vocab_size; });
  if (outside != ids.end()) {
    throw Error(fmt::format("token {} is outside the vocabulary", outside - ids.begin()))
        .expected(fmt::format("0 to {}", vocab_size - 1))
        .found(std::to_string(*outside));
  }
  return at::tensor(ids, at::kLong).to(device);
}

}  // namespace

Model::Model(ModelConfig config, ModelWeights weights)
    : config_(std::move(config)),
      weights_(std::move(weights)),
      rope_(config_.rope, config_.head_dim, weights_.device()) {}

Model Model::load(const std::filesystem::path& folder, at::Device device, at::ScalarType dtype) {
  ModelConfig config = ModelConfig::read(folder);
  const Checkpoint checkpoint = Checkpoint::open(folder);
  config.tie_word_embeddings = embeddings_are_tied(checkpoint, config);
  ModelWeights weights = load_weights(checkpoint, config, device, dtype);
  return Model(std::move(config), std::move(weights));
}

KvCache Model::make_cache() const {
  return KvCache(config_.num_hidden_layers, config_.num_key_value_heads, config_.head_dim,
                 weights_.embed_tokens.options().requires_grad(false));
}

at::Tensor Model::attention_block(int64_t layer, const at::Tensor& x, const RopeTables& rope, int64_t first_position,
                                  const ForwardOptions& options, Attention& attention) const {
  const LayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const int64_t q_rows = config_.num_attention_heads * config_.head_dim;
  const int64_t kv_rows = config_.num_key_value_heads * config_.head_dim;
  const at::Tensor qkv = weights.qkv(x);  // [T, (H + 2K) * D]
  const auto heads = [&](int64_t begin, int64_t rows) {
    return qkv.narrow(1, begin, rows).unflatten(1, {rows / config_.head_dim, config_.head_dim});
  };
  AttentionInput input;
  input.layer = layer;
  input.first_position = first_position;
  input.scale = 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
  input.q_pre_rope = heads(0, q_rows);
  input.k_pre_rope = heads(q_rows, kv_rows);
  input.v = heads(q_rows + kv_rows, kv_rows);
  if (config_.qk_norm) {
    input.q_pre_rope = ops::rms_norm(input.q_pre_rope, weights.q_norm, config_.rms_norm_eps);
    input.k_pre_rope = ops::rms_norm(input.k_pre_rope, weights.k_norm, config_.rms_norm_eps);
  }
  input.q = ops::apply_rope(input.q_pre_rope, rope.cos, rope.sin);
  input.k = ops::apply_rope(input.k_pre_rope, rope.cos, rope.sin);
  if (options.cache != nullptr) {
    const KvCache::Tokens tokens = options.cache->append(layer, input.k, input.v);
    input.k = tokens.keys;
    input.v = tokens.values;
  }
  for (AttentionObserver* observer : options.observers) {
    observer->observe(input);
  }
  return weights.output(attention.forward(input).flatten(1));
}

at::Tensor Model::forward(at::IntArrayRef ids, const ForwardOptions& options) const {
  DenseAttention dense;
  Attention& attention = options.attention != nullptr ? *options.attention : dense;
  const int64_t first_position = options.cache != nullptr ? options.cache->length() : 0;
  const RopeTables rope = rope_.tables(first_position, static_cast<int64_t>(ids.size()));
  at::Tensor x = at::embedding(weights_.embed_tokens, ids_on_device(ids, config_.vocab_size, device()));
  for (int64_t index = 0; index < config_.num_hidden_layers; ++index) {
    const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
    const at::Tensor attended = attention_block(index, ops::rms_norm(x, layer.input_norm, config_.rms_norm_eps), rope,
                                                first_position, options, attention);
    x = x + attended;
    const at::Tensor normed = ops::rms_norm(x, layer.post_attention_norm, config_.rms_norm_eps);
    x = x +
        (config_.has_experts(index) ? experts_forward(normed, layer, *config_.experts) : mlp_forward(normed, layer));
  }
  return ops::rms_norm(x, weights_.final_norm, config_.rms_norm_eps);
}

void Model::prefill(at::IntArrayRef ids, int64_t chunk, const ForwardOptions& options,
                    const std::function<void(int64_t, const at::Tensor&)>& sink) const {
  const int64_t num_tokens = static_cast<int64_t>(ids.size()), start = options.cache->length();
  options.cache->reserve(start + num_tokens);
  for (int64_t begin = 0; begin < num_tokens; begin += chunk) {
    const int64_t count = std::min(chunk, num_tokens - begin);
    sink(start + begin, forward(ids.slice(static_cast<size_t>(begin), static_cast<size_t>(count)), options));
  }
}

at::Tensor Model::logits(const at::Tensor& hidden) const {
  return ops::linear(hidden, weights_.lm_head).to(at::kFloat);
}

}  // namespace retrosparse
