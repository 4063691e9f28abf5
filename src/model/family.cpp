#include "model/family.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>

#include "base/embedded.h"
#include "base/yaml.h"

namespace retrosparse {

std::span<const EmbeddedFile> builtin_family_files();  // generated from configs/*.yaml

namespace {

Feature read_feature(const YamlObject& features, const std::string& key) {
  if (features.has(key) && features.raw()[key].is_boolean()) {
    return {features.get<bool>(key), ""};
  }
  return {false, features.get<std::string>(key)};
}

LayerTensors read_layer_tensors(const YamlObject& names) {
  LayerTensors layer;
  layer.input_norm = names.get<std::string>("input_norm");
  layer.post_attention_norm = names.get<std::string>("post_attention_norm");
  layer.q_proj = names.get<std::string>("q_proj");
  layer.k_proj = names.get<std::string>("k_proj");
  layer.v_proj = names.get<std::string>("v_proj");
  layer.o_proj = names.get<std::string>("o_proj");
  layer.q_norm = names.get_or<std::string>("q_norm", "");
  layer.k_norm = names.get_or<std::string>("k_norm", "");
  layer.gate_proj = names.get<std::string>("gate_proj");
  layer.up_proj = names.get<std::string>("up_proj");
  layer.down_proj = names.get<std::string>("down_proj");
  layer.router = names.get_or<std::string>("router", "");
  layer.expert_gate_proj = names.get_or<std::string>("expert_gate_proj", "");
  layer.expert_up_proj = names.get_or<std::string>("expert_up_proj", "");
  layer.expert_down_proj = names.get_or<std::string>("expert_down_proj", "");
  layer.fused_expert_gate_up = names.get_or<std::string>("fused_expert_gate_up", "");
  layer.fused_expert_down = names.get_or<std::string>("fused_expert_down", "");
  return layer;
}

}  // namespace

std::string substitute(std::string name, std::string_view placeholder, int64_t index) {
  const size_t at = name.find(placeholder);
  return at == std::string::npos ? name : name.replace(at, placeholder.size(), std::to_string(index));
}

Family Family::parse(const std::string& yaml, const std::string& name) {
  const YamlObject file = YamlObject::parse(yaml, name);
  Family family;
  family.name = name;
  family.architectures = file.get<std::vector<std::string>>("architectures");
  family.model_type = file.get<std::string>("model_type");
  family.source = file.get<std::string>("source");
  family.defaults = file.get<std::map<std::string, double>>("defaults");
  if (file.has("config_keys")) {
    const YamlObject keys = file.object("config_keys");
    for (const std::string& key : keys.keys()) {
      family.config_keys[key] = keys.get<std::vector<std::string>>(key);
    }
  }
  const YamlObject features = file.object("features");
  family.qk_norm = features.get<bool>("qk_norm");
  family.experts = features.get<bool>("experts");
  family.qkv_bias = read_feature(features, "qkv_bias");
  family.output_bias = read_feature(features, "output_bias");
  family.mlp_bias = read_feature(features, "mlp_bias");
  family.sliding_window = read_feature(features, "sliding_window");
  const YamlObject tensors = file.object("tensors");
  family.optional_prefix = tensors.get<std::string>("optional_prefix");
  family.embed_tokens = tensors.get<std::string>("embed_tokens");
  family.final_norm = tensors.get<std::string>("final_norm");
  family.lm_head = tensors.get<std::string>("lm_head");
  family.layer = read_layer_tensors(tensors.object("layer"));
  family.ignored_tensors = tensors.get<std::vector<std::string>>("ignored");
  file.finish();
  return family;
}

const std::vector<Family>& Family::all() {
  static const std::vector<Family> families = [] {
    std::vector<Family> parsed;
    for (const EmbeddedFile& file : builtin_family_files()) {
      parsed.push_back(parse(std::string(file.content), std::string(file.name)));
    }
    return parsed;
  }();
  return families;
}

const Family* Family::of_architecture(std::string_view architecture) {
  if (architecture.starts_with(kConvertedPrefix)) {
    architecture.remove_prefix(std::string_view(kConvertedPrefix).size());
  }
  for (const Family& family : all()) {
    if (std::ranges::find(family.architectures, architecture) != family.architectures.end()) {
      return &family;
    }
  }
  return nullptr;
}

}  // namespace retrosparse
