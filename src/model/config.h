#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "model/family.h"

namespace retrosparse {

enum class RopeType { kDefault, kLinear, kLlama3, kYarn };

/// Rotary position embedding as config.json describes it. Which fields count depends on the type.
struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000;
  double factor = 1;                                 ///< linear, llama3, yarn
  int64_t original_max_position_embeddings = 0;      ///< llama3, yarn
  double low_freq_factor = 1, high_freq_factor = 4;  ///< llama3
  double beta_fast = 32, beta_slow = 1;              ///< yarn
  double attention_factor = 1;                       ///< yarn: multiplies cos and sin
  bool truncate = true;                              ///< yarn: whole-number correction range
};

/// Mixture of experts: a router picks num_experts_per_tok of num_experts feed-forward networks for each token.
struct ExpertsConfig {
  int64_t num_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t intermediate_size = 0;        ///< of one expert
  bool normalize_top_k = false;         ///< the picked routing weights sum to 1
  std::vector<bool> layer_has_experts;  ///< [num_hidden_layers]; the others have a dense feed-forward network
};

/// The shape of a decoder-only transformer: everything that config.json says and the forward pass needs.
struct ModelConfig {
  std::filesystem::path source;  ///< what this was read from, for messages; empty for one put together otherwise
  std::string architecture;      ///< e.g. "Qwen3ForCausalLM"; where a base model is named, that with an output head
  const Family* family = nullptr;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  bool qkv_bias = false, output_bias = false, mlp_bias = false;
  bool qk_norm = false;
  RopeConfig rope;
  std::optional<ExpertsConfig> experts;
  std::vector<int64_t> eos_token_ids;
  std::optional<int64_t> bos_token_id;
  std::string dtype;  ///< of the checkpoint as config.json names it ("bfloat16"); empty when it does not

  /// Whether this is a checkpoint that RetroSparse converted: its heads are meant to be sparse.
  bool is_converted() const { return architecture.starts_with(kConvertedPrefix); }

  /// Query heads that share one key/value head.
  int64_t group_size() const { return num_attention_heads / num_key_value_heads; }
  bool has_experts(int64_t layer) const { return experts && experts->layer_has_experts[static_cast<size_t>(layer)]; }

  /// Reads `path` (a config.json as transformers 4 or 5 writes it, or a folder that holds one). Throws Error for a
  /// missing, mistyped or absurd value, and a refusal that says why for what RetroSparse does not run: another
  /// architecture, quantised weights, a sliding window of the model's own, other RoPE or activation kinds, a base model
  /// without an output head.
  static ModelConfig read(const std::filesystem::path& path);
};

}  // namespace retrosparse
