#include "model/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "model/config_reader.h"
#include "model/config_refusals.h"
#include "model/rope_config.h"

namespace retrosparse {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 24;  // of any dimension: beyond all models, small enough to multiply
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kNoToken = -1;  // as some configurations say that there is none

[[noreturn]] void refuse_family(const JsonObject& json, const std::vector<std::string>& architectures) {
  if (architectures.empty() && !json.has("model_type")) {
    throw json.error("architectures", json.has("architectures") ? "names none" : "missing")
        .expected("the model's architecture, as in [\"LlamaForCausalLM\"]");
  }
  std::vector<std::string> known;
  for (const Family& family : Family::all()) {
    if (architectures.empty()) {
      known.push_back(family.model_type);
    } else {
      known.insert(known.end(), family.architectures.begin(), family.architectures.end());
    }
  }
  throw json.error(architectures.empty() ? "model_type" : "architectures", "unsupported architecture")
      .expected(fmt::format("one of {}", fmt::join(known, ", ")))
      .found(architectures.empty() ? json.get<std::string>("model_type")
                                   : fmt::format("{}", fmt::join(architectures, ", ")));
}

// "LlamaModel" is what a checkpoint of the base model alone is called. It runs where the head is the embedding table.
std::string with_output_head(const JsonObject& json, const std::string& architecture) {
  constexpr std::string_view kBaseModel = "Model", kOutputHead = "ForCausalLM";
  if (!architecture.ends_with(kBaseModel)) {
    return architecture;
  }
  std::string headed = architecture.substr(0, architecture.size() - kBaseModel.size());
  headed += kOutputHead;
  if (Family::of_architecture(headed) != nullptr && !json.get_or<bool>("tie_word_embeddings", false)) {
    throw json.error("architectures", "a base model, which has no output head")
        .expected(headed)
        .found(architecture)
        .hint("it runs where config.json says tie_word_embeddings: true");
  }
  return headed;
}

// transformers goes by model_type, so that a family by the architecture alone could be another one.
void check_model_type(const JsonObject& json, const std::string& architecture, const Family& family) {
  const auto model_type = json.get_or<std::string>("model_type", "");
  const bool is_converted = architecture.starts_with(kConvertedPrefix);
  if (!model_type.empty() && !is_converted && model_type != family.model_type) {
    throw json.error("model_type", fmt::format("contradicts 'architectures', {}", architecture))
        .expected(family.model_type)
        .found(model_type);
  }
}

const Family& family_of(const JsonObject& json, std::string& architecture) {
  const auto architectures = json.get_or<std::vector<std::string>>("architectures", {});
  for (const std::string& name : architectures) {
    architecture = with_output_head(json, name);
    if (const Family* family = Family::of_architecture(architecture)) {
      check_model_type(json, architecture, *family);
      return *family;
    }
  }
  const auto model_type = json.get_or<std::string>("model_type", "");
  for (const Family& family : Family::all()) {
    if (architectures.empty() && family.model_type == model_type) {
      architecture = family.architectures.front();
      return family;
    }
  }
  refuse_family(json, architectures);
}

void check_range(const JsonObject& json, const char* key, const std::vector<int64_t>& values, int64_t lowest,
                 int64_t highest) {
  for (const int64_t value : values) {
    if (value < lowest || value > highest) {
      throw json.error(key, "out of range")
          .expected(fmt::format("whole numbers from {} to {}", lowest, highest))
          .found(std::to_string(value));
    }
  }
}

// Without experts transformers gives every layer a dense feed-forward network, whatever the other keys say.
std::optional<ExpertsConfig> read_experts(const JsonObject& json, const ConfigReader& reader,
                                          const ModelConfig& config) {
  ExpertsConfig experts;
  experts.num_experts = reader.integer("num_experts", 0, 65536);
  if (experts.num_experts == 0) {
    return {};
  }
  experts.num_experts_per_tok = reader.integer("num_experts_per_tok", 1, experts.num_experts);
  experts.intermediate_size = reader.integer("moe_intermediate_size", 1, kMaxSize);
  experts.normalize_top_k = json.get_or<bool>("norm_topk_prob", false);
  const int64_t step = reader.integer("decoder_sparse_step", 1, kMaxSize);
  const auto dense_layers = json.get_or<std::vector<int64_t>>("mlp_only_layers", {});
  check_range(json, "mlp_only_layers", dense_layers, 0, kMaxLayers - 1);
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    experts.layer_has_experts.push_back((layer + 1) % step == 0 && std::ranges::count(dense_layers, layer) == 0);
  }
  return experts;
}

std::vector<int64_t> read_eos(const JsonObject& json) {
  if (!json.has("eos_token_id")) {
    return {};
  }
  const bool several = json.raw()["eos_token_id"].is_array();
  std::vector<int64_t> ids =
      several ? json.get<std::vector<int64_t>>("eos_token_id") : std::vector{json.get<int64_t>("eos_token_id")};
  check_range(json, "eos_token_id", ids, kNoToken, kMaxSize);
  return ids;
}

int64_t read_head_dim(const JsonObject& json, const ConfigReader& reader, const ModelConfig& config) {
  const bool stated_null = json.raw().contains("head_dim") && !json.has("head_dim");
  if (stated_null || (!json.has("head_dim") && !reader.default_of("head_dim"))) {
    if (config.hidden_size % config.num_attention_heads != 0) {
      throw json.out_of_range("hidden_size",
                              fmt::format("a multiple of num_attention_heads = {}", config.num_attention_heads));
    }
    return config.hidden_size / config.num_attention_heads;
  }
  return reader.integer("head_dim", 1, 1024);
}

// Each value may be fine and their product absurd; nothing is allocated or listed for a model that cannot be.
void check_size(const JsonObject& json, const ModelConfig& config) {
  constexpr double kMaxParameters = 1e15, kMaxTensors = 1e7;
  const auto real = [](int64_t value) { return static_cast<double>(value); };
  const double experts = config.experts ? real(config.experts->num_experts) : 0;
  const double widest = config.experts ? experts * real(config.experts->intermediate_size) : 0;
  const double per_layer = 3 * (widest + real(config.intermediate_size)) * real(config.hidden_size) +
                           4 * real(config.num_attention_heads) * real(config.head_dim) * real(config.hidden_size);
  const double layers = real(config.num_hidden_layers);
  const double parameters = 2 * real(config.vocab_size) * real(config.hidden_size) + layers * per_layer;
  if (parameters > kMaxParameters || layers * (experts * 3 + 12) > kMaxTensors) {
    throw json.error("num_hidden_layers", "the values of this file together make no model that can exist")
        .expected(fmt::format("at most {:g} parameters and {:g} tensors", kMaxParameters, kMaxTensors))
        .found(fmt::format("about {:.2g} and {:.2g}", parameters, layers * (experts * 3 + 12)));
  }
}

}  // namespace

ModelConfig ModelConfig::read(const std::filesystem::path& path) {
  if (std::filesystem::is_regular_file(path) && path.extension() != ".json") {
    throw Error("not a model").file(path.string()).expected("the folder of a checkpoint, or its config.json");
  }
  const JsonObject json = JsonObject::read(std::filesystem::is_directory(path) ? path / "config.json" : path);
  ModelConfig config;
  config.source = path;
  config.family = &family_of(json, config.architecture);
  const Family& family = *config.family;
  const ConfigReader reader(json, family);
  refuse_what_is_not_run(json, reader, family);

  config.vocab_size = reader.integer("vocab_size", 1, kMaxSize);
  config.hidden_size = reader.integer("hidden_size", 1, kMaxSize);
  config.intermediate_size = reader.integer("intermediate_size", 1, kMaxSize);
  config.num_hidden_layers = reader.integer("num_hidden_layers", 1, kMaxLayers);
  config.num_attention_heads = reader.integer("num_attention_heads", 1, 4096);
  config.num_key_value_heads =
      json.raw().contains("num_key_value_heads") && !json.has("num_key_value_heads")
          ? config.num_attention_heads  // null: no grouping, whatever the family's default
          : reader.integer("num_key_value_heads", 1, config.num_attention_heads, config.num_attention_heads);
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    throw json.out_of_range("num_key_value_heads",
                            fmt::format("a divisor of num_attention_heads = {}", config.num_attention_heads));
  }
  config.head_dim = read_head_dim(json, reader, config);
  if (config.head_dim % 2 != 0) {
    throw json.error("head_dim", "rotary embedding needs pairs of dimensions")
        .expected("an even number")
        .found(std::to_string(config.head_dim));
  }
  config.max_position_embeddings = reader.integer("max_position_embeddings", 1, kMaxPositions);
  config.rms_norm_eps = reader.number("rms_norm_eps", 0, 1);
  config.tie_word_embeddings = json.get_or<bool>("tie_word_embeddings", false);
  config.qkv_bias = reader.feature(family.qkv_bias);
  config.output_bias = reader.feature(family.output_bias);
  config.mlp_bias = reader.feature(family.mlp_bias);
  config.qk_norm = family.qk_norm;
  config.rope = read_rope(json, reader, config);
  if (family.experts) {
    config.experts = read_experts(json, reader, config);
  }
  check_size(json, config);
  config.eos_token_ids = read_eos(json);
  if (json.has("bos_token_id")) {
    config.bos_token_id = reader.integer("bos_token_id", kNoToken, kMaxSize);
  }
  config.dtype = json.get_or<std::string>("dtype", json.get_or<std::string>("torch_dtype", ""));
  constexpr std::array<std::string_view, 5> kKnownDtypes = {"", "auto", "float32", "float16", "bfloat16"};
  if (std::ranges::count(kKnownDtypes, config.dtype) == 0) {
    log_warning("{}: dtype {} is not one that models run in; the tensors' own counts", json.file(), config.dtype);
  }
  return config;
}

}  // namespace retrosparse
