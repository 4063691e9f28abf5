#include "model/rope_config.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace retrosparse {
namespace {

constexpr double kMaxFactor = 1e6;  // of any scaling: beyond all models

// The factor on cos and sin that arXiv 2309.00071 recommends for a context stretched by `scale`.
double yarn_scale(double scale, double mscale) {
  return scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0;
}

void read_yarn(const JsonObject& json, const ModelConfig& config, RopeConfig& rope) {
  if (!json.has("factor")) {
    rope.factor = static_cast<double>(config.max_position_embeddings) /
                  static_cast<double>(rope.original_max_position_embeddings);
  }
  const auto number_or = [&](const char* key, double fallback) {  // 0 stands for a value that is not given
    return json.get_or<double>(key, 0) == 0 ? fallback : number_in_range(json, key, 0, kMaxFactor);
  };
  rope.beta_fast = number_or("beta_fast", 32);
  rope.beta_slow = number_or("beta_slow", 1);
  rope.truncate = json.get_or<bool>("truncate", true);
  const double mscale = number_or("mscale", 0), mscale_all_dim = number_or("mscale_all_dim", 0);
  if (json.has("attention_factor")) {
    rope.attention_factor = number_in_range(json, "attention_factor", 0, kMaxFactor);
    return;
  }
  rope.attention_factor = mscale != 0 && mscale_all_dim != 0
                              ? yarn_scale(rope.factor, mscale) / yarn_scale(rope.factor, mscale_all_dim)
                              : yarn_scale(rope.factor, 1);
}

// Some models have RoPE parameters for each kind of layer, one object inside the other.
void refuse_nested(const JsonObject& scaling) {
  for (const std::string& key : scaling.keys()) {
    if (scaling.raw()[key].is_object()) {
      throw scaling.error(key, "RoPE parameters for each kind of layer are not supported")
          .expected("one set of parameters for all layers");
    }
  }
}

void read_scaling(const JsonObject& json, const JsonObject& scaling, const ModelConfig& config, RopeConfig& rope) {
  const auto type = scaling.get_or<std::string>("rope_type", scaling.get_or<std::string>("type", "default"));
  if (scaling.get_or<double>("partial_rotary_factor", 1) != 1) {
    throw scaling.wrong_value("partial_rotary_factor", "1 (rotary embedding of a part of head_dim is not supported)");
  }
  if (type == "default") {
    return;
  }
  if (type == "linear") {
    rope.type = RopeType::kLinear;
  } else if (type == "llama3") {
    rope.type = RopeType::kLlama3;
  } else if (type == "yarn") {
    rope.type = RopeType::kYarn;
  } else {
    throw scaling.error("rope_type", "unsupported RoPE scaling")
        .expected("default, linear, llama3 or yarn")
        .found(type);
  }
  if (rope.type != RopeType::kYarn || scaling.has("factor")) {
    rope.factor = number_in_range(scaling, "factor", 0, kMaxFactor);
  }
  const char* original = "original_max_position_embeddings";
  const JsonObject& holder = json.has(original) ? json : scaling;
  rope.original_max_position_embeddings = holder.get_or<int64_t>(original, config.max_position_embeddings);
  if (rope.original_max_position_embeddings < 1 || rope.original_max_position_embeddings > kMaxPositions) {
    throw holder.out_of_range(original, fmt::format("a whole number from 1 to {}", kMaxPositions));
  }
  if (rope.type == RopeType::kLlama3) {
    rope.low_freq_factor = number_in_range(scaling, "low_freq_factor", 0, kMaxFactor);
    rope.high_freq_factor = number_in_range(scaling, "high_freq_factor", rope.low_freq_factor, kMaxFactor);
  } else if (rope.type == RopeType::kYarn) {
    read_yarn(scaling, config, rope);
  }
}

}  // namespace

RopeConfig read_rope(const JsonObject& json, const ConfigReader& reader, const ModelConfig& config) {
  if (json.get_or<double>("partial_rotary_factor", 1) != 1) {
    throw json.wrong_value("partial_rotary_factor", "1 (rotary embedding of a part of head_dim is not supported)");
  }
  RopeConfig rope;
  constexpr double kMaxTheta = 1e15;  // far beyond all models; float32 frequencies stay finite
  // An empty rope_scaling says nothing.
  const bool old_form = json.has("rope_scaling") && !json.object("rope_scaling").keys().empty();
  const char* scaling_key = old_form ? "rope_scaling" : "rope_parameters";
  const bool scaled = json.has(scaling_key);
  const JsonObject scaling = scaled ? json.object(scaling_key) : json;
  if (scaled) {
    refuse_nested(scaling);
  }
  const bool stated_there = scaled && scaling.has("rope_theta");
  rope.theta =
      stated_there ? number_in_range(scaling, "rope_theta", 1, kMaxTheta) : reader.number("rope_theta", 1, kMaxTheta);
  if (!scaled) {
    return rope;
  }
  read_scaling(json, scaling, config, rope);
  return rope;
}

}  // namespace retrosparse
