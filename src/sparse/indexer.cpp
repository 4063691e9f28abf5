#include "sparse/indexer.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace retrosparse {

at::Tensor LayerIndexer::queries(const at::Tensor& q_pre_rope) const {
  const at::Tensor of_heads = q_pre_rope.index_select(1, head_index).permute({1, 0, 2}).to(at::kFloat);
  return at::bmm(of_heads, q_proj.transpose(1, 2));
}

at::Tensor LayerIndexer::keys(const at::Tensor& k_pre_rope) const {
  const at::Tensor of_groups = k_pre_rope.index_select(1, group_index).permute({1, 0, 2}).to(at::kFloat);
  return at::bmm(of_groups, k_proj.transpose(1, 2));
}

at::Tensor LayerIndexer::scores(const at::Tensor& index_queries, const at::Tensor& index_keys) const {
  return at::bmm(index_queries, index_keys.index_select(0, group_of_head).transpose(1, 2));
}

at::Tensor LayerIndexer::gate(const at::Tensor& q_pre_rope) const {
  const at::Tensor of_heads = q_pre_rope.index_select(1, head_index).to(at::kFloat);
  return at::einsum("nrd,rd->rn", {of_heads, gate_weight}) + gate_bias.unsqueeze(1);
}

Indexer Indexer::allocate(const HeadPlan& plan, int64_t head_dim, int64_t index_dim, at::Device device) {
  const at::TensorOptions floats = at::TensorOptions().device(device).dtype(at::kFloat);
  const int64_t group_size = plan.num_attention_heads / plan.num_key_value_heads;
  Indexer indexer;
  indexer.index_dim = index_dim;
  for (size_t index = 0; index < plan.retrieval_heads.size(); ++index) {
    LayerIndexer layer;
    layer.heads = plan.retrieval_heads[index];
    layer.groups = plan.groups(static_cast<int64_t>(index));
    std::vector<int64_t> group_of_head;
    for (const int64_t head : layer.heads) {
      const auto group = std::ranges::find(layer.groups, head / group_size);
      group_of_head.push_back(group - layer.groups.begin());
    }
    const int64_t num_heads = layer.num_heads(), num_groups = static_cast<int64_t>(layer.groups.size());
    layer.q_proj = at::zeros({num_heads, index_dim, head_dim}, floats);
    layer.k_proj = at::zeros({num_groups, index_dim, head_dim}, floats);
    layer.gate_weight = at::zeros({num_heads, head_dim}, floats);
    layer.gate_bias = at::zeros({num_heads}, floats);
    layer.head_index = at::tensor(layer.heads, at::kLong).to(device);
    layer.group_index = at::tensor(layer.groups, at::kLong).to(device);
    layer.group_of_head = at::tensor(group_of_head, at::kLong).to(device);
    indexer.layers.push_back(std::move(layer));
  }
  return indexer;
}

void Indexer::initialize_from_rope(int64_t head_dim, double noise, uint64_t seed) {
  if (index_dim % 2 != 0 || index_dim > head_dim) {
    throw Error("index_dim")
        .expected(fmt::format("an even number up to head_dim = {}", head_dim))
        .found(std::to_string(index_dim));
  }
  at::Tensor pick = at::zeros({index_dim, head_dim});
  const int64_t pairs = index_dim / 2, half = head_dim / 2;
  for (int64_t pair = 0; pair < pairs; ++pair) {  // pair i turns dimensions i and i + half; the slowest come last
    pick[pair][half - pairs + pair] = 1;
    pick[pairs + pair][head_dim - pairs + pair] = 1;
  }
  pick.mul_(std::pow(static_cast<double>(head_dim), -0.25));
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (const at::Tensor& projection : projections()) {
    projection.copy_(pick + at::randn(projection.sizes(), generator) * noise);
  }
}

void Indexer::initialize_random(int64_t head_dim, uint64_t seed) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (const at::Tensor& projection : projections()) {
    projection.copy_(at::randn(projection.sizes(), generator) / std::sqrt(static_cast<double>(head_dim)));
  }
}

std::map<std::string, at::Tensor> Indexer::named_tensors() const {
  std::map<std::string, at::Tensor> tensors;
  for (size_t index = 0; index < layers.size(); ++index) {
    const LayerIndexer& layer = layers[index];
    if (layer.heads.empty()) {
      continue;
    }
    const std::string prefix = fmt::format("model.layers.{}.self_attn.indexer.", index);
    tensors[prefix + "q_proj.weight"] = layer.q_proj;
    tensors[prefix + "k_proj.weight"] = layer.k_proj;
    tensors[prefix + "gate.weight"] = layer.gate_weight;
    tensors[prefix + "gate.bias"] = layer.gate_bias;
  }
  return tensors;
}

void Indexer::load(const std::map<std::string, at::Tensor>& tensors) {
  for (auto& [name, tensor] : named_tensors()) {
    const auto stored = tensors.find(name);
    if (stored == tensors.end()) {
      throw Error("missing").tensor(name);
    }
    if (stored->second.sizes() != tensor.sizes()) {
      throw Error("wrong shape for this head plan")
          .tensor(name)
          .expected(fmt::format("[{}]", fmt::join(tensor.sizes(), ", ")))
          .found(fmt::format("[{}]", fmt::join(stored->second.sizes(), ", ")));
    }
    tensor.copy_(stored->second);
  }
}

std::vector<at::Tensor> Indexer::projections() const {
  std::vector<at::Tensor> tensors;
  for (const LayerIndexer& layer : layers) {
    if (!layer.heads.empty()) {
      tensors.insert(tensors.end(), {layer.q_proj, layer.k_proj});
    }
  }
  return tensors;
}

std::vector<at::Tensor> Indexer::gates() const {
  std::vector<at::Tensor> tensors;
  for (const LayerIndexer& layer : layers) {
    if (!layer.heads.empty()) {
      tensors.insert(tensors.end(), {layer.gate_weight, layer.gate_bias});
    }
  }
  return tensors;
}

}  // namespace retrosparse
