#include "model/config.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "model/tiny_model.h"

namespace retrosparse {
namespace {

// What a changed config.json is answered with: the error, or "" where it is read.
std::string answer_to(const nlohmann::json& config) {
  const TemporaryFolder folder;
  write_config(folder.path(), config);
  try {
    ModelConfig::read(folder.path());
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::string answer_to(const std::string& key, const nlohmann::json& value) {
  nlohmann::json config = tiny_config();
  config[key] = value;
  return answer_to(config);
}

std::string answer_without(const std::string& key) {
  nlohmann::json config = tiny_config();
  config.erase(key);
  return answer_to(config);
}

ModelConfig read(const nlohmann::json& config) {
  const TemporaryFolder folder;
  write_config(folder.path(), config);
  return ModelConfig::read(folder.path() / "config.json");
}

TEST(ModelConfig, ReadsWhatItIsGiven) {
  const ModelConfig config = read(tiny_config());
  EXPECT_EQ(config.family->name, "qwen3_moe");
  EXPECT_EQ(config.group_size(), 3);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_TRUE(config.qk_norm);
  EXPECT_FALSE(config.qkv_bias);
  EXPECT_EQ(config.experts->layer_has_experts, (std::vector<bool>{true, false, true}));
  EXPECT_EQ(config.rms_norm_eps, 1e-6);  // the family's default
  EXPECT_EQ(config.dtype, "float32");
}

TEST(ModelConfig, NoExpertsMeanDenseLayers) {
  nlohmann::json config = tiny_config();
  config["num_experts"] = 0;  // below num_experts_per_tok, which does not count then
  EXPECT_FALSE(read(config).experts.has_value());
  EXPECT_FALSE(read(config).has_experts(0));
  EXPECT_NE(answer_to("num_experts", -3).find("key 'num_experts': out of range"), std::string::npos);
  EXPECT_NE(answer_to("num_experts", "many").find("key 'num_experts': wrong type"), std::string::npos);
}

TEST(ModelConfig, EosMayBeOneOrSeveral) {
  nlohmann::json config = tiny_config();
  EXPECT_TRUE(read(config).eos_token_ids.empty());
  config["eos_token_id"] = 7;
  EXPECT_EQ(read(config).eos_token_ids, (std::vector<int64_t>{7}));
  config["eos_token_id"] = {7, 9};
  EXPECT_EQ(read(config).eos_token_ids, (std::vector<int64_t>{7, 9}));
}

TEST(ModelConfig, HeadDimFollowsTheHiddenSizeWhereItIsNotGiven) {
  nlohmann::json config = tiny_config();
  config.erase("head_dim");
  config["hidden_size"] = 48;
  EXPECT_EQ(read(config).head_dim, 8);
  config["head_dim"] = nullptr;
  EXPECT_EQ(read(config).head_dim, 8);
  config["hidden_size"] = 47;
  EXPECT_NE(answer_to(config).find("key 'hidden_size'"), std::string::npos);
}

TEST(ModelConfig, RefusesAbsurdOrMissingValuesByKey) {
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                          "num_experts_per_tok", "moe_intermediate_size", "max_position_embeddings", "rope_theta"}) {
    for (const nlohmann::json& value : {nlohmann::json(0), nlohmann::json(-3), nlohmann::json("many"),
                                        nlohmann::json(1e300), nlohmann::json::array()}) {
      EXPECT_NE(answer_to(key, value).find(key), std::string::npos) << key << " = " << value;
    }
  }
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                          "architectures"}) {
    EXPECT_NE(answer_without(key).find(std::string("key '") + key + "'"), std::string::npos) << key;
  }
  EXPECT_NE(answer_to("num_key_value_heads", 4).find("a divisor of num_attention_heads = 6"), std::string::npos);
  EXPECT_NE(answer_to("head_dim", 7).find("an even number"), std::string::npos);
}

TEST(ModelConfig, RefusesWhatItDoesNotRunAndSaysWhy) {
  EXPECT_NE(answer_to("architectures", {"GemmaForCausalLM"}).find("unsupported architecture"), std::string::npos);
  EXPECT_NE(answer_to("hidden_act", "gelu").find("expected silu, found gelu"), std::string::npos);
  EXPECT_NE(answer_to("quantization_config", {{"quant_method", "fp8"}}).find("found fp8"), std::string::npos);
  EXPECT_NE(answer_to("rope_scaling", {{"rope_type", "longrope"}}).find("found longrope"), std::string::npos);
  EXPECT_NE(answer_to("layer_types", {"full_attention", "sliding_attention", "full_attention"})
                .find("found sliding_attention"),
            std::string::npos);
  nlohmann::json config = tiny_config();
  config["use_sliding_window"] = true;
  EXPECT_NE(answer_to(config).find("for which transformers assumes 4096"), std::string::npos);
  config["sliding_window"] = 512;
  EXPECT_NE(answer_to(config).find("found 512"), std::string::npos);
  config["sliding_window"] = nullptr;
  EXPECT_EQ(answer_to(config), "");
  EXPECT_EQ(answer_to("sliding_window", 512), "");  // use_sliding_window is false
}

TEST(ModelConfig, TheModelTypeMustNotContradictTheArchitecture) {
  nlohmann::json config = tiny_config();
  const auto architecture = config["architectures"][0].get<std::string>();
  const Family& family = *Family::of_architecture(architecture);
  EXPECT_EQ(answer_to("model_type", family.model_type), "");
  for (const char* other : {"mistral", "qwen3", "gemma"}) {
    const std::string error = answer_to("model_type", other);
    EXPECT_NE(error.find(fmt::format("key 'model_type': contradicts 'architectures', {}: expected {}, found {}",
                                     architecture, family.model_type, other)),
              std::string::npos)
        << error;
  }
  EXPECT_NE(answer_to("model_type", 4).find("key 'model_type'"), std::string::npos);
  config["model_type"] = "retrosparse_" + family.name;
  config["architectures"] = {kConvertedPrefix + architecture};
  EXPECT_EQ(answer_to(config), "");
}

TEST(ModelConfig, AWindowIsForTheLayersThatTheFamilySays) {
  const auto answer = [](const char* architecture, const nlohmann::json& changes) {
    nlohmann::json config = tiny_config();
    config["architectures"] = {architecture};
    config["use_sliding_window"] = true;
    config["sliding_window"] = 16;
    config.update(changes);
    return answer_to(config);
  };
  const nlohmann::json none = nlohmann::json::object();
  const nlohmann::json full = {{"layer_types", std::vector<std::string>(3, "full_attention")}};
  for (const char* by_layer : {"Qwen2ForCausalLM", "Qwen3ForCausalLM"}) {
    EXPECT_EQ(answer(by_layer, full), "") << by_layer;
    EXPECT_EQ(answer(by_layer, none), "") << by_layer << ": max_window_layers is 28 then";
    EXPECT_EQ(answer(by_layer, {{"max_window_layers", 3}}), "") << by_layer;
    EXPECT_NE(answer(by_layer, {{"max_window_layers", 2}}).find("key 'sliding_window'"), std::string::npos) << by_layer;
    EXPECT_EQ(answer(by_layer, {{"max_window_layers", 2}, {"layer_types", full["layer_types"]}}), "") << by_layer;
  }
  for (const nlohmann::json& changes : {none, nlohmann::json{{"max_window_layers", 3}}}) {
    EXPECT_NE(answer("MistralForCausalLM", changes).find("key 'sliding_window'"), std::string::npos) << changes;
    EXPECT_NE(answer("Qwen3MoeForCausalLM", changes).find("key 'sliding_window'"), std::string::npos) << changes;
  }
  EXPECT_NE(answer("Qwen3MoeForCausalLM", full).find("key 'sliding_window'"), std::string::npos);
  EXPECT_EQ(answer("MistralForCausalLM", full), "");
  EXPECT_EQ(answer("LlamaForCausalLM", none), "");
}

TEST(ModelConfig, RefusesLayerTypesForAnotherNumberOfLayers) {
  EXPECT_NE(answer_to("layer_types", {"full_attention"}).find("expected 3, found 1"), std::string::npos);
}

TEST(ModelConfig, FindsTheFamilyWithoutArchitectures) {
  nlohmann::json config = tiny_config();
  config["model_type"] = "qwen3_moe";
  for (const nlohmann::json& none : {nlohmann::json(nullptr), nlohmann::json::array()}) {
    config["architectures"] = none;
    EXPECT_EQ(read(config).architecture, "Qwen3MoeForCausalLM") << none;
  }
  config["model_type"] = "gemma";
  EXPECT_NE(answer_to(config).find("key 'model_type': unsupported architecture"), std::string::npos);
  EXPECT_NE(answer_to(config).find("found gemma"), std::string::npos) << answer_to(config);
}

TEST(ModelConfig, ABaseModelRunsWhereItsHeadIsTied) {
  nlohmann::json config = tiny_config();
  config["architectures"] = {"Qwen3MoeModel"};
  EXPECT_EQ(read(config).architecture, "Qwen3MoeForCausalLM");
  config["tie_word_embeddings"] = false;
  EXPECT_NE(answer_to(config).find("a base model, which has no output head"), std::string::npos) << answer_to(config);
  EXPECT_NE(answer_to("architectures", {"GemmaModel"}).find("found GemmaModel"), std::string::npos);
}

TEST(ModelConfig, ReadsRopeParametersUnlessTheOldFormSaysSomething) {
  nlohmann::json config = tiny_config();
  config["rope_parameters"] = {{"rope_type", "linear"}, {"rope_theta", 500.0}, {"factor", 2.0}};
  for (const nlohmann::json& nothing : {nlohmann::json(nullptr), nlohmann::json::object()}) {
    config["rope_scaling"] = nothing;
    EXPECT_EQ(read(config).rope.type, RopeType::kLinear) << nothing;
    EXPECT_EQ(read(config).rope.theta, 500) << nothing;
  }
  config["rope_scaling"] = {{"type", "default"}};
  EXPECT_EQ(read(config).rope.type, RopeType::kDefault);
}

TEST(ModelConfig, RefusesRopeParametersForEachKindOfLayer) {
  const std::string answer =
      answer_to("rope_parameters", {{"full_attention", {{"rope_type", "linear"}, {"factor", 2.0}}}});
  EXPECT_NE(answer.find("key 'rope_parameters.full_attention'"), std::string::npos) << answer;
}

TEST(ModelConfig, SwishIsAnotherNameOfSilu) {
  EXPECT_EQ(answer_to("hidden_act", "swish"), "");
}

TEST(ModelConfig, NumbersHaveARange) {
  const auto expect_range = [](const char* key, const char* range, const std::vector<nlohmann::json>& fine,
                               const std::vector<nlohmann::json>& absurd) {
    for (const nlohmann::json& value : fine) {
      EXPECT_EQ(answer_to(key, value), "") << key << " = " << value;
    }
    for (const nlohmann::json& value : absurd) {
      const std::string answer = answer_to(key, value);
      EXPECT_NE(answer.find(fmt::format("config.json: key '{}': out of range: expected {}, found ", key, range)),
                std::string::npos)
          << answer;
    }
  };
  expect_range("rms_norm_eps", "a number above 0, at most 1", {1e-12, 1e-5, 1}, {0, -1e-6, 1.5, 1e10});
  expect_range("rope_theta", "a number above 1, at most 1e+15", {1.5, 10000, 5e8}, {0, 1, -1e4, 2e15});
  const char* ids = "whole numbers from -1 to 16777216";
  expect_range("eos_token_id", ids, {-1, 0, 60, {-1, 60}}, {-2, 1 << 25, {3, -2}, {int64_t{1} << 40}});
  expect_range("bos_token_id", "a whole number from -1 to 16777216", {-1, 0, 60}, {-2, 1 << 25, int64_t{1} << 40});
  expect_range("mlp_only_layers", "whole numbers from 0 to 4095", {{0, 2}, {7}}, {{-1}, {0, 4096}});
}

TEST(ModelConfig, NumbersOfRopeHaveARange) {
  const auto expect_range = [](nlohmann::json scaling, const char* key, const char* range,
                               const std::vector<double>& fine, const std::vector<double>& absurd) {
    for (const double value : fine) {
      scaling[key] = value;
      EXPECT_EQ(answer_to("rope_parameters", scaling), "") << scaling;
    }
    for (const double value : absurd) {
      scaling[key] = value;
      const std::string answer = answer_to("rope_parameters", scaling);
      EXPECT_NE(answer.find(fmt::format("config.json: key 'rope_parameters.{}': out of range: expected {}, found ", key,
                                        range)),
                std::string::npos)
          << answer;
    }
  };
  const nlohmann::json linear = {{"rope_type", "linear"}, {"factor", 2}};
  const nlohmann::json yarn = {{"rope_type", "yarn"}, {"factor", 4}};
  const nlohmann::json llama3 = {
      {"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}};
  const char* factor = "a number above 0, at most 1e+06";
  for (const nlohmann::json& scaling : {linear, llama3, yarn}) {
    expect_range(scaling, "factor", factor, {0.5, 8, 128}, {0, -2, 1e10});
    expect_range(scaling, "rope_theta", "a number above 1, at most 1e+15", {1e4, 5e8}, {0, -1e4, 1e20});
  }
  expect_range(llama3, "low_freq_factor", factor, {0.5, 2}, {0, -1, 1e10});
  expect_range(llama3, "high_freq_factor", "a number above 1, at most 1e+06", {1.5, 32}, {1, 0, -4, 1e10});
  for (const char* key : {"beta_fast", "beta_slow", "mscale", "mscale_all_dim"}) {
    expect_range(yarn, key, factor, {0, 0.7, 32}, {-1, 1e10});  // 0: not given
  }
  expect_range(yarn, "attention_factor", factor, {0.7, 1.2}, {0, -1, 1e10});
  const std::string original = "original_max_position_embeddings";
  for (const int64_t absurd : {int64_t{0}, int64_t{-8}, int64_t{1} << 50}) {
    nlohmann::json scaling = yarn;
    scaling[original] = absurd;
    EXPECT_NE(answer_to("rope_parameters", scaling).find("key 'rope_parameters." + original + "': out of range"),
              std::string::npos);
    nlohmann::json config = tiny_config();
    config["rope_parameters"] = yarn;
    config[original] = absurd;
    EXPECT_NE(answer_to(config).find("key '" + original + "': out of range"), std::string::npos);
  }
}

TEST(ModelConfig, SaysWhenANumberIsOutOfRange) {
  EXPECT_NE(answer_to("rms_norm_eps", 0).find("out of range: expected a number above 0, at most 1, found 0"),
            std::string::npos);
  EXPECT_NE(answer_to("num_key_value_heads", 4).find("out of range: expected a divisor"), std::string::npos);
  EXPECT_NE(answer_to("rms_norm_eps", "small").find("wrong type"), std::string::npos);
}

}  // namespace
}  // namespace retrosparse
