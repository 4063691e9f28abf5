#include "model/weights.h"

#include <ATen/ops/empty.h>

#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "model/tensor_match.h"
#include "ops/linear.h"

namespace retrosparse {
namespace {

// Adds the weight, and the bias where there is one, of a projection that occupies rows [begin, begin + count).
void bind_rows(std::vector<TensorBinding>& bindings, const std::string& name, const Linear& linear, int64_t begin,
               int64_t count) {
  bindings.push_back({name + ".weight", linear.weight.narrow(0, begin, count)});
  if (linear.bias.defined()) {
    bindings.push_back({name + ".bias", linear.bias.narrow(0, begin, count)});
  }
}

void bind_experts(std::vector<TensorBinding>& bindings, const ModelConfig& config, const LayerTensors& names,
                  int64_t layer, const LayerWeights& weights, ExpertLayout layout) {
  const int64_t size = config.experts->intermediate_size;
  bindings.push_back({substitute(names.router, "{layer}", layer) + ".weight", weights.router});
  if (layout == ExpertLayout::kFused) {
    bindings.push_back({substitute(names.fused_expert_gate_up, "{layer}", layer), weights.expert_gate_up});
    bindings.push_back({substitute(names.fused_expert_down, "{layer}", layer), weights.expert_down});
    return;
  }
  for (int64_t expert = 0; expert < config.experts->num_experts; ++expert) {
    const auto name = [&](const std::string& pattern) {
      return substitute(substitute(pattern, "{layer}", layer), "{expert}", expert) + ".weight";
    };
    const at::Tensor gate_up = weights.expert_gate_up.select(0, expert);
    bindings.push_back({name(names.expert_gate_proj), gate_up.narrow(0, 0, size)});
    bindings.push_back({name(names.expert_up_proj), gate_up.narrow(0, size, size)});
    bindings.push_back({name(names.expert_down_proj), weights.expert_down.select(0, expert)});
  }
}

void bind_layer(std::vector<TensorBinding>& bindings, const ModelConfig& config, int64_t layer,
                const LayerWeights& weights, ExpertLayout layout) {
  const LayerTensors& names = config.family->layer;
  const auto name = [&](const std::string& pattern) { return substitute(pattern, "{layer}", layer); };
  const int64_t q_rows = config.num_attention_heads * config.head_dim;
  const int64_t kv_rows = config.num_key_value_heads * config.head_dim;
  bindings.push_back({name(names.input_norm), weights.input_norm});
  bindings.push_back({name(names.post_attention_norm), weights.post_attention_norm});
  bind_rows(bindings, name(names.q_proj), weights.qkv, 0, q_rows);
  bind_rows(bindings, name(names.k_proj), weights.qkv, q_rows, kv_rows);
  bind_rows(bindings, name(names.v_proj), weights.qkv, q_rows + kv_rows, kv_rows);
  bind_rows(bindings, name(names.o_proj), weights.output, 0, config.hidden_size);
  if (config.qk_norm) {
    bindings.push_back({name(names.q_norm), weights.q_norm});
    bindings.push_back({name(names.k_norm), weights.k_norm});
  }
  if (config.has_experts(layer)) {
    bind_experts(bindings, config, names, layer, weights, layout);
  } else {
    bind_rows(bindings, name(names.gate_proj), weights.gate_up, 0, config.intermediate_size);
    bind_rows(bindings, name(names.up_proj), weights.gate_up, config.intermediate_size, config.intermediate_size);
    bind_rows(bindings, name(names.down_proj), weights.down, 0, config.hidden_size);
  }
}

}  // namespace

std::map<std::string, at::Tensor> tensors_as_stored(const Checkpoint& source, const ModelConfig& config,
                                                    const ModelWeights& weights) {
  const TensorMatch match = match_tensors(source, config);
  match.check(source);
  std::map<std::string, at::Tensor> tensors;
  for (const TensorBinding& binding : bind_tensors(config, weights, match.layout)) {
    const TensorInfo& stored = source.info(match.stored_as.at(binding.name));
    tensors.emplace(binding.name, binding.view.detach().to(stored.dtype));
  }
  return tensors;
}

std::string config_dtype_name(at::ScalarType dtype) {
  return dtype == at::kHalf ? "float16" : dtype == at::kBFloat16 ? "bfloat16" : "float32";
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  return ops::linear(x, weight, bias);
}

ModelWeights allocate_weights(const ModelConfig& config, at::Device device, at::ScalarType dtype) {
  const at::TensorOptions options = at::TensorOptions().device(device).dtype(dtype);
  const auto tensor = [&](at::IntArrayRef shape) { return at::empty(shape, options); };
  const auto linear = [&](int64_t out, int64_t in, bool bias) {
    return Linear{tensor({out, in}), bias ? tensor({out}) : at::Tensor()};
  };
  const int64_t q_rows = config.num_attention_heads * config.head_dim;
  const int64_t kv_rows = config.num_key_value_heads * config.head_dim;
  ModelWeights weights;
  weights.embed_tokens = tensor({config.vocab_size, config.hidden_size});
  weights.final_norm = tensor({config.hidden_size});
  weights.lm_head = config.tie_word_embeddings ? weights.embed_tokens : tensor({config.vocab_size, config.hidden_size});
  for (int64_t index = 0; index < config.num_hidden_layers; ++index) {
    LayerWeights layer;
    layer.input_norm = tensor({config.hidden_size});
    layer.post_attention_norm = tensor({config.hidden_size});
    layer.qkv = linear(q_rows + 2 * kv_rows, config.hidden_size, config.qkv_bias);
    layer.output = linear(config.hidden_size, q_rows, config.output_bias);
    if (config.qk_norm) {
      layer.q_norm = tensor({config.head_dim});
      layer.k_norm = tensor({config.head_dim});
    }
    if (config.has_experts(index)) {
      const ExpertsConfig& experts = *config.experts;
      layer.router = tensor({experts.num_experts, config.hidden_size});
      layer.expert_gate_up = tensor({experts.num_experts, 2 * experts.intermediate_size, config.hidden_size});
      layer.expert_down = tensor({experts.num_experts, config.hidden_size, experts.intermediate_size});
    } else {
      layer.gate_up = linear(2 * config.intermediate_size, config.hidden_size, config.mlp_bias);
      layer.down = linear(config.hidden_size, config.intermediate_size, config.mlp_bias);
    }
    weights.layers.push_back(std::move(layer));
  }
  return weights;
}

std::vector<TensorBinding> bind_tensors(const ModelConfig& config, const ModelWeights& weights, ExpertLayout layout) {
  const Family& family = *config.family;
  std::vector<TensorBinding> bindings{{family.embed_tokens, weights.embed_tokens},
                                      {family.final_norm, weights.final_norm}};
  if (!config.tie_word_embeddings) {
    bindings.push_back({family.lm_head, weights.lm_head});
  }
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    bind_layer(bindings, config, layer, weights.layers[static_cast<size_t>(layer)], layout);
  }
  return bindings;
}

ModelWeights load_weights(const Checkpoint& checkpoint, const ModelConfig& config, at::Device device,
                          at::ScalarType dtype) {
  const TensorMatch match = match_tensors(checkpoint, config);
  match.check(checkpoint);  // before memory is taken: a wrong config.json may ask for any amount
  ModelWeights weights = allocate_weights(config, device, dtype);
  const std::vector<TensorBinding> bindings = bind_tensors(config, weights, match.layout);
  if (!match.surplus.empty()) {
    log_warning("{}: {} tensors that {} does not use: {}", checkpoint.dir().string(), match.surplus.size(),
                config.architecture, first_few(match.surplus));
  }
  if (!checkpoint.surplus().empty()) {
    log_warning("{}: {} tensors are in files where {} does not list them: {}", checkpoint.dir().string(),
                checkpoint.surplus().size(), kIndexFile, first_few(checkpoint.surplus()));
  }
  Progress progress("load weights", static_cast<int64_t>(bindings.size()), "tensors");
  for (const TensorBinding& binding : bindings) {
    InterruptGuard::check();
    at::Tensor view = binding.view;
    view.copy_(checkpoint.tensor(match.stored_as.at(binding.name)));
    progress.advance(1);
  }
  progress.finish();
  return weights;
}

}  // namespace retrosparse
