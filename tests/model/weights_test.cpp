#include "model/weights.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/log.h"
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
