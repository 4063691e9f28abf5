#include "model/family.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "base/embedded.h"
#include "base/yaml.h"

namespace retrosparse {

std::span<const EmbeddedFile> builtin_family_files();  // generated from configs/*.yaml

namespace {

/// One mapping of a family's file, read over what its base has.
class Section {
 public:
  Section(YamlObject yaml, bool has_base) : yaml_(std::move(yaml)), has_base_(has_base) {}

  /// Sets a value that every family has; without a base the key has to be there.
  template <typename T>
  void needed(const char* key, T& value) const {
    if (yaml_.has(key) || !has_base_) {
      value = yaml_.get<T>(key);
    }
  }

  void needed(const char* key, Feature& feature) const {
    if (yaml_.has(key) && yaml_.raw()[key].is_boolean()) {
      feature = {yaml_.get<bool>(key), ""};
    } else if (yaml_.has(key) || !has_base_) {
      feature = {false, yaml_.get<std::string>(key)};
    }
  }

  void optional(const char* key, std::string& value) const { value = yaml_.get_or<std::string>(key, value); }

  Section section(const char* key) const {
    return {has_base_ ? yaml_.object_or_empty(key) : yaml_.object(key), has_base_};
  }

 private:
  YamlObject yaml_;
  bool has_base_;
};

void read_layer_tensors(const Section& names, LayerTensors& layer) {
  names.needed("input_norm", layer.input_norm);
  names.needed("post_attention_norm", layer.post_attention_norm);
  names.needed("q_proj", layer.q_proj);
  names.needed("k_proj", layer.k_proj);
  names.needed("v_proj", layer.v_proj);
  names.needed("o_proj", layer.o_proj);
  names.optional("q_norm", layer.q_norm);
  names.optional("k_norm", layer.k_norm);
  names.needed("gate_proj", layer.gate_proj);
  names.needed("up_proj", layer.up_proj);
  names.needed("down_proj", layer.down_proj);
  names.optional("router", layer.router);
  names.optional("expert_gate_proj", layer.expert_gate_proj);
  names.optional("expert_up_proj", layer.expert_up_proj);
  names.optional("expert_down_proj", layer.expert_down_proj);
  names.optional("fused_expert_gate_up", layer.fused_expert_gate_up);
  names.optional("fused_expert_down", layer.fused_expert_down);
}

void read_tensors(const Section& tensors, Family& family) {
  tensors.needed("optional_prefix", family.optional_prefix);
  tensors.needed("embed_tokens", family.embed_tokens);
  tensors.needed("final_norm", family.final_norm);
  tensors.needed("lm_head", family.lm_head);
  tensors.needed("ignored", family.ignored_tensors);
  read_layer_tensors(tensors.section("layer"), family.layer);
}

void read_features(const Section& features, Family& family) {
  features.needed("qk_norm", family.qk_norm);
  features.needed("experts", family.experts);
  features.needed("qkv_bias", family.qkv_bias);
  features.needed("output_bias", family.output_bias);
  features.needed("mlp_bias", family.mlp_bias);
  features.needed("sliding_window", family.sliding_window);
  features.needed("sliding_window_by_layer", family.sliding_window_by_layer);
}

const Family& base_of(const YamlObject& file, const std::vector<Family>& bases) {
  const auto name = file.get<std::string>("base");
  const auto base = std::ranges::find(bases, name, &Family::name);
  if (base == bases.end()) {
    std::vector<std::string> known;
    std::ranges::transform(bases, std::back_inserter(known), &Family::name);
    throw file.error("base", "no family that has no base itself is called so")
        .expected(fmt::format("one of {}", fmt::join(known, ", ")))
        .found(name);
  }
  return *base;
}

}  // namespace

std::string substitute(std::string name, std::string_view placeholder, int64_t index) {
  const size_t at = name.find(placeholder);
  return at == std::string::npos ? name : name.replace(at, placeholder.size(), std::to_string(index));
}

Family Family::parse(const std::string& yaml, const std::string& name, const std::vector<Family>& bases) {
  const YamlObject file = YamlObject::parse(yaml, name);
  const bool has_base = file.has("base");
  Family family = has_base ? base_of(file, bases) : Family();
  family.name = name;
  family.architectures = file.get<std::vector<std::string>>("architectures");
  family.model_type = file.get<std::string>("model_type");
  family.source = file.get<std::string>("source");
  for (const auto& [key, value] : file.get_or<std::map<std::string, double>>("defaults", {})) {
    family.defaults[key] = value;
  }
  const YamlObject keys = file.object_or_empty("config_keys");
  for (const std::string& key : keys.keys()) {
    family.config_keys[key] = keys.get<std::vector<std::string>>(key);
  }
  const Section sections(file, has_base);
  read_features(sections.section("features"), family);
  read_tensors(sections.section("tensors"), family);
  file.finish();
  return family;
}

const std::vector<Family>& Family::all() {
  static const std::vector<Family> families = [] {
    std::vector<Family> bases, parsed;
    for (const bool with_base : {false, true}) {
      for (const EmbeddedFile& file : builtin_family_files()) {
        if (YamlObject::parse(file.content, std::string(file.name)).has("base") == with_base) {
          parsed.push_back(parse(std::string(file.content), std::string(file.name), bases));
        }
      }
      bases = parsed;
    }
    std::ranges::sort(parsed, {}, &Family::name);
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
