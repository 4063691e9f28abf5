// The counts against what the loader allocates: the sizes of all tensors that such a model has.
#include "plan/parameters.h"

#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "model/weights.h"
#include "plan/small_config.h"

namespace retrosparse {
namespace {

double allocated(const ModelConfig& config, const std::string& part = "") {
  double count = 0;
  for (const TensorBinding& binding : bind_tensors(config, allocate_weights(config, at::kMeta, at::kFloat))) {
    count += binding.name.find(part) == std::string::npos ? 0 : static_cast<double>(binding.view.numel());
  }
  return count;
}

ModelConfig moe_config() {
  ModelConfig config = small_config();
  config.architecture = "Qwen3MoeForCausalLM";
  config.family = Family::of_architecture(config.architecture);
  config.qk_norm = true;
  config.experts = ExpertsConfig{7, 3, 24, true, {true, false, true}};
  return config;
}

TEST(Parameters, EqualTheAllocatedTensors) {
  const ModelConfig config = small_config();
  EXPECT_EQ(count_parameters(config).total(), allocated(config));
  EXPECT_EQ(count_parameters(config).active(), allocated(config));
}

TEST(Parameters, TiedEmbeddingsCountOnce) {
  ModelConfig config = small_config();
  config.tie_word_embeddings = true;
  EXPECT_EQ(count_parameters(config).total(), allocated(config));
}

TEST(Parameters, BiasesCount) {
  for (bool ModelConfig::*bias : {&ModelConfig::qkv_bias, &ModelConfig::output_bias, &ModelConfig::mlp_bias}) {
    ModelConfig config = small_config();
    config.*bias = true;
    EXPECT_EQ(count_parameters(config).total(), allocated(config));
    EXPECT_GT(count_parameters(config).total(), count_parameters(small_config()).total());
  }
}

TEST(Parameters, ExpertsCountByPart) {
  const ModelConfig config = moe_config();
  const ParameterCounts counts = count_parameters(config);
  EXPECT_EQ(counts.total(), allocated(config));
  EXPECT_EQ(counts.experts, allocated(config, ".experts."));
  EXPECT_EQ(counts.router, allocated(config, ".mlp.gate.weight"));
  EXPECT_EQ(counts.attention, allocated(config, "self_attn.") - allocated(config, "self_attn.q_norm") -
                                  allocated(config, "self_attn.k_norm"));
  EXPECT_EQ(counts.norms, allocated(config, "norm"));
  EXPECT_EQ(counts.active_experts * 7, counts.experts * 3);
  EXPECT_EQ(counts.total() - counts.active(), counts.experts * 4 / 7);
}

TEST(Parameters, EqualTheBundledCheckpoint) {
  const std::filesystem::path nano = std::filesystem::path(RETROSPARSE_SOURCE_DIR) / "examples/nano";
  const double stored = static_cast<double>(Checkpoint::open(nano).total_bytes()) / 2;  // bfloat16
  EXPECT_EQ(count_parameters(ModelConfig::read(nano)).total(), stored);
}

}  // namespace
}  // namespace retrosparse
