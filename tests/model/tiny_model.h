#pragma once
#include <ATen/ATen.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint/safetensors_writer.h"
#include "model/model.h"

namespace retrosparse {

/// A folder that goes away with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "retrosparse-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// config.json of a small Qwen3 mixture-of-experts model (the family with the most features).
inline nlohmann::json tiny_config() {
  return {{"architectures", {"Qwen3MoeForCausalLM"}},
          {"vocab_size", 61},
          {"hidden_size", 32},
          {"intermediate_size", 48},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 6},
          {"num_key_value_heads", 2},
          {"head_dim", 8},
          {"max_position_embeddings", 256},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", true},
          {"num_experts", 5},
          {"num_experts_per_tok", 2},
          {"moe_intermediate_size", 24},
          {"norm_topk_prob", true},
          {"mlp_only_layers", {1}},
          {"torch_dtype", "float32"}};
}

inline void write_config(const std::filesystem::path& folder, const nlohmann::json& config) {
  std::ofstream(folder / "config.json") << config.dump(2);
}

/// Random weights for a config, by the names of the checkpoint.
inline std::map<std::string, at::Tensor> random_tensors_for(const ModelConfig& config) {
  at::manual_seed(11);
  std::map<std::string, at::Tensor> tensors;
  const ModelWeights weights = allocate_weights(config, at::kCPU, at::kFloat);
  for (const TensorBinding& binding : bind_tensors(config, weights)) {
    const double spread = binding.view.dim() == 1 ? 0.3 : 0.2;
    tensors[binding.name] = at::randn(binding.view.sizes()) * spread + (binding.view.dim() == 1 ? 1 : 0);
  }
  return tensors;
}

/// Writes a checkpoint with random weights and returns its configuration.
inline ModelConfig write_tiny_checkpoint(const std::filesystem::path& folder,
                                         const nlohmann::json& json = tiny_config()) {
  write_config(folder, json);
  const ModelConfig config = ModelConfig::read(folder);
  write_safetensors(folder / "model.safetensors", random_tensors_for(config));
  return config;
}

}  // namespace retrosparse
