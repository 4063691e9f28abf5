#include "model/family.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"

namespace retrosparse {
namespace {

const Family& built_in(std::string_view name) {
  return *std::ranges::find(Family::all(), name, &Family::name);
}

std::string error_of(const std::string& yaml) {
  try {
    Family::parse(yaml, "mine.yaml", Family::all());
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::string with_base(std::string_view rest) {
  return fmt::format("base: llama\narchitectures: [MineForCausalLM]\nmodel_type: mine\nsource: here\n{}", rest);
}

TEST(Family, SaysOnlyWhatDiffersFromItsBase) {
  const std::string yaml = with_base(
      "defaults: {rope_theta: 7, head_dim: 64}\n"
      "features: {qk_norm: true, qkv_bias: my_bias}\n"
      "tensors: {lm_head: head, layer: {q_norm: 'q.{layer}', o_proj: out}}\n");
  const Family mine = Family::parse(yaml, "mine.yaml", Family::all());
  const Family& llama = built_in("llama");
  EXPECT_EQ(mine.architectures, (std::vector<std::string>{"MineForCausalLM"}));
  EXPECT_EQ(mine.name, "mine.yaml");
  EXPECT_EQ(mine.defaults.at("rope_theta"), 7);
  EXPECT_EQ(mine.defaults.at("head_dim"), 64);
  EXPECT_EQ(mine.defaults.at("rms_norm_eps"), llama.defaults.at("rms_norm_eps"));
  EXPECT_TRUE(mine.qk_norm);
  EXPECT_EQ(mine.qkv_bias.config_key, "my_bias");
  EXPECT_EQ(mine.mlp_bias.config_key, llama.mlp_bias.config_key);
  EXPECT_EQ(mine.lm_head, "head");
  EXPECT_EQ(mine.layer.o_proj, "out");
  EXPECT_EQ(mine.layer.q_norm, "q.{layer}");
  EXPECT_EQ(mine.layer.k_proj, llama.layer.k_proj);
  EXPECT_EQ(mine.ignored_tensors, llama.ignored_tensors);
}

TEST(Family, AFeatureOfTheBaseCanBeFixed) {
  const Family mine = Family::parse(with_base("features: {mlp_bias: false}\n"), "mine.yaml", Family::all());
  EXPECT_EQ(mine.mlp_bias.config_key, "");
  EXPECT_FALSE(mine.mlp_bias.value);
}

TEST(Family, NamesTheBasesThereAre) {
  const std::string error = error_of("base: lama\narchitectures: [M]\nmodel_type: m\nsource: s\n");
  EXPECT_NE(error.find("mine.yaml:1: key 'base'"), std::string::npos) << error;
  EXPECT_NE(error.find("llama"), std::string::npos) << error;
  EXPECT_NE(error.find("found lama"), std::string::npos) << error;
}

TEST(Family, WithoutABaseSaysEverything) {
  EXPECT_NE(error_of("architectures: [M]\nmodel_type: m\nsource: s\ndefaults: {}\n").find("key 'features': missing"),
            std::string::npos);
  EXPECT_NE(error_of(with_base("tensors: {layer: {q_nrom: x}}\n")).find("did you mean 'q_norm'"), std::string::npos);
  EXPECT_NE(error_of("base: llama\nmodel_type: m\nsource: s\n").find("key 'architectures': missing"),
            std::string::npos);
}

TEST(Family, EveryBuiltInOneHasItsOwnNames) {
  EXPECT_EQ(Family::all().size(), 5U);
  EXPECT_EQ(built_in("qwen3_moe").layer.router, "model.layers.{layer}.mlp.gate");
  EXPECT_EQ(built_in("qwen2").layer.q_norm, "");
  EXPECT_FALSE(built_in("mistral").qkv_bias.value);
  EXPECT_TRUE(built_in("qwen2").qkv_bias.value);
}

}  // namespace
}  // namespace retrosparse
