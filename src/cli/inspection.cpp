#include "cli/inspection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "export/load_converted.h"
#include "text/tokenizer.h"

namespace retrosparse::cli {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

void add_weights(Inspection& inspection, const fs::path& folder) {
  const Checkpoint& checkpoint = inspection.checkpoint.emplace(Checkpoint::open(folder));
  for (const std::string& name : checkpoint.names()) {
    const TensorInfo& info = checkpoint.info(name);
    for (Inspection::Total* total : {&inspection.dtypes[std::string(dtype_name(info.dtype).value_or("?"))],
                                     &inspection.files[checkpoint.file_of(name)]}) {
      ++total->tensors;
      total->bytes += info.bytes();
    }
  }
  inspection.match = match_tensors(checkpoint, inspection.config);
  if (inspection.conversion) {
    match_index(checkpoint, inspection.conversion->sparse.indexer, inspection.match);
  }
  if (inspection.config.tie_word_embeddings) {
    for (const std::string& name : {inspection.config.family->embed_tokens, inspection.config.family->lm_head}) {
      if (checkpoint.has(name)) {
        inspection.tied_storage.push_back(name);
      }
    }
  }
}

std::string describe_tokenizer(const fs::path& folder) {
  try {
    return fmt::format("byte-level BPE, {} tokens", Tokenizer::from_folder(folder).vocab_size());
  } catch (const Error& error) {
    return fmt::format("none that can be used: {}", error.what());
  }
}

ordered_json rope_json(const RopeConfig& rope) {
  ordered_json json = {{"rope_type", rope_type_name(rope.type)}, {"rope_theta", rope.theta}};
  if (rope.type != RopeType::kDefault) {
    json["factor"] = rope.factor;
  }
  if (rope.type == RopeType::kLlama3 || rope.type == RopeType::kYarn) {
    json["original_max_position_embeddings"] = rope.original_max_position_embeddings;
  }
  if (rope.type == RopeType::kLlama3) {
    json["low_freq_factor"] = rope.low_freq_factor;
    json["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.type == RopeType::kYarn) {
    json["beta_fast"] = rope.beta_fast;
    json["beta_slow"] = rope.beta_slow;
    json["attention_factor"] = rope.attention_factor;
    json["truncate"] = rope.truncate;
  }
  return json;
}

ordered_json config_json(const ModelConfig& config) {
  ordered_json json = {{"architecture", config.architecture},
                       {"family", config.family->name},
                       {"num_hidden_layers", config.num_hidden_layers},
                       {"hidden_size", config.hidden_size},
                       {"intermediate_size", config.intermediate_size},
                       {"num_attention_heads", config.num_attention_heads},
                       {"num_key_value_heads", config.num_key_value_heads},
                       {"head_dim", config.head_dim},
                       {"vocab_size", config.vocab_size},
                       {"max_position_embeddings", config.max_position_embeddings},
                       {"qk_norm", config.qk_norm},
                       {"qkv_bias", config.qkv_bias},
                       {"output_bias", config.output_bias},
                       {"mlp_bias", config.mlp_bias},
                       {"tie_word_embeddings", config.tie_word_embeddings},
                       {"rope", rope_json(config.rope)}};
  if (config.experts) {
    const ExpertsConfig& experts = *config.experts;
    json["experts"] = {{"num_experts", experts.num_experts},
                       {"num_experts_per_tok", experts.num_experts_per_tok},
                       {"intermediate_size", experts.intermediate_size},
                       {"layers", std::ranges::count(experts.layer_has_experts, true)}};
  }
  json["eos_token_ids"] = config.eos_token_ids;
  return json;
}

ordered_json totals_json(const std::map<std::string, Inspection::Total>& totals) {
  ordered_json json = ordered_json::object();
  for (const auto& [name, total] : totals) {
    json[name] = {{"tensors", total.tensors}, {"bytes", total.bytes}};
  }
  return json;
}

ordered_json weights_json(const Inspection& inspection, bool tensors) {
  const Checkpoint& checkpoint = *inspection.checkpoint;
  ordered_json json = {{"bytes", checkpoint.total_bytes()},      {"dtypes", totals_json(inspection.dtypes)},
                       {"files", totals_json(inspection.files)}, {"tied_embedding_stored_as", inspection.tied_storage},
                       {"missing", inspection.match.missing},    {"surplus", inspection.match.surplus},
                       {"not_in_index", checkpoint.surplus()},   {"wrong", ordered_json::array()}};
  for (const Error& problem : inspection.match.wrong) {
    json["wrong"].push_back(problem.what());
  }
  if (tensors) {
    for (const std::string& name : checkpoint.names()) {
      const TensorInfo& info = checkpoint.info(name);
      json["tensors"][name] = {
          {"dtype", dtype_name(info.dtype).value_or("?")}, {"shape", info.shape}, {"file", checkpoint.file_of(name)}};
    }
  }
  return json;
}

}  // namespace

void Inspection::check() const {
  if (checkpoint) {
    match.check(*checkpoint);
  }
}

Inspection inspect_model(const fs::path& path) {
  Inspection inspection;
  inspection.config = ModelConfig::read(path);
  inspection.parameters = count_parameters(inspection.config);
  if (inspection.config.is_converted()) {
    inspection.conversion = read_settings(path, inspection.config);
  }
  if (!fs::is_directory(path)) {
    inspection.no_weights = "only config.json was looked at";
    return inspection;
  }
  inspection.tokenizer = describe_tokenizer(path);
  if (fs::exists(path / kSingleFile) || fs::exists(path / kIndexFile)) {
    add_weights(inspection, path);
  } else {
    try {
      Checkpoint::open(path);
    } catch (const Error& error) {  // says what lies there instead
      inspection.no_weights = error.what();
    }
  }
  return inspection;
}

std::string rope_type_name(RopeType type) {
  switch (type) {
    case RopeType::kLinear:
      return "linear";
    case RopeType::kLlama3:
      return "llama3";
    case RopeType::kYarn:
      return "yarn";
    default:
      return "default";
  }
}

ordered_json to_json(const Inspection& inspection, bool tensors) {
  ordered_json json = config_json(inspection.config);
  if (inspection.conversion) {
    json["retrosparse"] = settings_json(*inspection.conversion);
  }
  json["parameters"] = std::llround(inspection.parameters.total());
  json["active_parameters"] = std::llround(inspection.parameters.active());
  if (inspection.checkpoint) {
    json["weights"] = weights_json(inspection, tensors);
  } else {
    json["weights"] = nullptr;
    json["no_weights"] = inspection.no_weights;
  }
  json["tokenizer"] = inspection.tokenizer;
  return json;
}

}  // namespace retrosparse::cli
