#include "model/weights.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/log.h"
#include "model/tensor_match.h"
#include "model/tiny_model.h"

namespace retrosparse {
namespace {

class WeightsTest : public testing::Test {
 protected:
  WeightsTest() : config_(write_tiny_checkpoint(folder_.path())), tensors_(random_tensors_for(config_)) {}

  ModelWeights load() const {
    write_safetensors(folder_.path() / "model.safetensors", tensors_);
    return load_weights(Checkpoint::open(folder_.path()), config_, at::kCPU, at::kFloat);
  }
  std::string error() const {
    try {
      load();
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  }

  TemporaryFolder folder_;
  ModelConfig config_;
  std::map<std::string, at::Tensor> tensors_;
};

TEST_F(WeightsTest, BindingsReadBackWhatWasStored) {
  const ModelWeights weights = load();
  const std::vector<TensorBinding> bindings = bind_tensors(config_, weights);
  EXPECT_EQ(bindings.size(), tensors_.size());
  for (const TensorBinding& binding : bindings) {
    EXPECT_TRUE(at::equal(binding.view, tensors_.at(binding.name))) << binding.name;
  }
}

TEST_F(WeightsTest, NamesMissingTensors) {
  tensors_.erase("model.layers.1.mlp.up_proj.weight");
  tensors_.erase("model.layers.2.mlp.experts.4.down_proj.weight");
  EXPECT_NE(error().find("2 of 61 tensors are missing: model.layers.1.mlp.up_proj.weight, "
                         "model.layers.2.mlp.experts.4.down_proj.weight"),
            std::string::npos)
      << error();
}

TEST_F(WeightsTest, NamesAWrongShape) {
  tensors_["model.layers.0.self_attn.q_proj.weight"] = at::zeros({32, 48});
  EXPECT_NE(error().find("tensor 'model.layers.0.self_attn.q_proj.weight': wrong shape for this config.json: expected "
                         "[48, 32], found [32, 48]"),
            std::string::npos)
      << error();
}

TEST_F(WeightsTest, RefusesQuantisedTensors) {
  tensors_["model.norm.weight"] = at::zeros({32}, at::kChar);
  EXPECT_NE(error().find("quantised"), std::string::npos) << error();
}

TEST_F(WeightsTest, WarnsOfTensorsThatNothingUses) {
  std::string log;
  set_log_sink([&](std::string_view line) { log += std::string(line) + "\n"; });
  tensors_["model.layers.0.self_attn.rotary_emb.inv_freq"] = at::zeros({4});  // old checkpoints hold it
  load();
  EXPECT_EQ(log.find("warning"), std::string::npos) << log;
  tensors_["model.layers.0.extra.weight"] = at::zeros({4});
  load();
  set_log_sink({});
  EXPECT_NE(log.find("1 tensors that Qwen3MoeForCausalLM does not use: model.layers.0.extra.weight"), std::string::npos)
      << log;
}

TEST_F(WeightsTest, WarnsOfTensorsThatTheIndexDoesNotList) {
  nlohmann::json index;
  for (const auto& [name, tensor] : tensors_) {
    index["weight_map"][name] = "a.safetensors";
  }
  write_safetensors(folder_.path() / "a.safetensors", tensors_);
  std::map<std::string, at::Tensor> twice = {{"model.norm.weight", at::zeros({32})}, {"other", at::zeros({1})}};
  write_safetensors(folder_.path() / "b.safetensors", twice);
  index["weight_map"]["model.norm.weight"] = "b.safetensors";
  std::filesystem::remove(folder_.path() / "model.safetensors");
  std::ofstream(folder_.path() / kIndexFile) << index;
  std::string log;
  set_log_sink([&](std::string_view line) { log += std::string(line) + "\n"; });
  load_weights(Checkpoint::open(folder_.path()), config_, at::kCPU, at::kFloat);
  set_log_sink({});
  EXPECT_NE(log.find("warning"), std::string::npos) << log;
  EXPECT_NE(log.find("2 tensors are in files where model.safetensors.index.json does not list them: "
                     "model.norm.weight, other"),
            std::string::npos)
      << log;
}

TEST_F(WeightsTest, EmbeddingsAreTiedByValueUnderEitherName) {
  const at::Tensor table = tensors_.at("model.embed_tokens.weight").to(at::kBFloat16).to(at::kFloat);
  const auto tied = [&](const std::string& name, const at::Tensor& input, const at::Tensor& output) {
    std::map<std::string, at::Tensor> tensors = {{name, input}, {"lm_head.weight", output}};
    write_safetensors(folder_.path() / "model.safetensors", tensors);
    return embeddings_are_tied(Checkpoint::open(folder_.path()), config_);
  };
  at::Tensor last_differs = table.clone();
  last_differs[60][31] += 1;
  for (const char* name : {"model.embed_tokens.weight", "embed_tokens.weight"}) {
    EXPECT_TRUE(tied(name, table, table.clone())) << name;
    EXPECT_TRUE(tied(name, table, table.to(at::kBFloat16))) << name;
    EXPECT_FALSE(tied(name, table, last_differs)) << name;
    EXPECT_FALSE(tied(name, last_differs, table.to(at::kDouble))) << name;
    EXPECT_FALSE(tied(name, table, table.narrow(0, 0, 60).clone())) << name;
  }
}

TEST_F(WeightsTest, ConvertsHalfPrecision) {
  for (auto& [name, tensor] : tensors_) {
    tensor = tensor.to(at::kBFloat16);
  }
  const ModelWeights weights = load();
  EXPECT_EQ(weights.dtype(), at::kFloat);
  EXPECT_TRUE(at::equal(weights.final_norm, tensors_.at("model.norm.weight").to(at::kFloat)));
}

}  // namespace
}  // namespace retrosparse
