#include "plan/parameters.h"

namespace retrosparse {
namespace {

double attention_parameters(const ModelConfig& config) {
  const auto hidden = static_cast<double>(config.hidden_size);
  const auto q_rows = static_cast<double>(config.num_attention_heads * config.head_dim);
  const auto kv_rows = static_cast<double>(config.num_key_value_heads * config.head_dim);
  double count = hidden * (q_rows + 2 * kv_rows) + q_rows * hidden;
  count += config.qkv_bias ? q_rows + 2 * kv_rows : 0;
  count += config.output_bias ? hidden : 0;
  return count;
}

double mlp_parameters(const ModelConfig& config) {
  const auto hidden = static_cast<double>(config.hidden_size), inner = static_cast<double>(config.intermediate_size);
  return 3 * hidden * inner + (config.mlp_bias ? 2 * inner + hidden : 0);
}

}  // namespace

ParameterCounts count_parameters(const ModelConfig& config) {
  const auto hidden = static_cast<double>(config.hidden_size);
  ParameterCounts counts;
  counts.embedding = static_cast<double>(config.vocab_size) * hidden;
  counts.lm_head = config.tie_word_embeddings ? 0 : counts.embedding;
  counts.norms = hidden;  // after the last layer
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    counts.attention += attention_parameters(config);
    counts.norms += 2 * hidden + (config.qk_norm ? 2 * static_cast<double>(config.head_dim) : 0);
    if (config.has_experts(layer)) {
      const ExpertsConfig& experts = *config.experts;
      const double one = 3 * hidden * static_cast<double>(experts.intermediate_size);
      counts.experts += static_cast<double>(experts.num_experts) * one;
      counts.active_experts += static_cast<double>(experts.num_experts_per_tok) * one;
      counts.router += static_cast<double>(experts.num_experts) * hidden;
    } else {
      counts.mlp += mlp_parameters(config);
    }
  }
  return counts;
}

}  // namespace retrosparse
