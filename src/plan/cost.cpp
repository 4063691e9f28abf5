#include "plan/cost.h"

#include <algorithm>
#include <cmath>

namespace retrosparse {
namespace {

double query_heads(const ModelConfig& config) {
  return static_cast<double>(config.num_hidden_layers) * static_cast<double>(config.num_attention_heads);
}

double key_value_heads(const ModelConfig& config) {
  return static_cast<double>(config.num_hidden_layers) * static_cast<double>(config.num_key_value_heads);
}

// The probability that a group of `size` heads, of `all` of which `chosen` are drawn without replacement, holds one
// that was drawn: 1 - C(all - size, chosen) / C(all, chosen).
double probability_of_hit(double all, double chosen, int64_t size) {
  double missed = 1;
  for (int64_t i = 0; i < size; ++i) {
    const auto drawn = static_cast<double>(i);
    missed *= std::max(0.0, all - chosen - drawn) / (all - drawn);
  }
  return 1 - missed;
}

// Pairs of a query and a key that it sees, for one head: the sum over t = 1..tokens of min(t, near).
double visible_pairs(double tokens, double near) {
  const double growing = std::min(tokens, near);
  return growing * (growing + 1) / 2 + (tokens - growing) * near;
}

double head_matrix(const ModelConfig& config) {
  return static_cast<double>(config.vocab_size) * static_cast<double>(config.hidden_size);
}

}  // namespace

AttentionShape dense_shape(const ModelConfig& config) {
  AttentionShape shape;
  shape.retrieval_heads = query_heads(config);
  shape.full_groups = key_value_heads(config);
  return shape;
}

AttentionShape sparse_shape(const ModelConfig& config, const SparseOptions& options, Spread spread) {
  const double heads = query_heads(config), groups = key_value_heads(config);
  AttentionShape shape;
  shape.retrieval_heads = std::round(options.retrieval_share * heads);
  shape.local_heads = heads - shape.retrieval_heads;
  shape.full_groups = spread == Spread::kWorst
                          ? std::min(groups, shape.retrieval_heads)
                          : groups * probability_of_hit(heads, shape.retrieval_heads, config.group_size());
  shape.local_groups = groups - shape.full_groups;
  shape.near_tokens = static_cast<double>(options.window + options.sink_tokens);
  shape.index_dim = static_cast<double>(options.index_dim);
  shape.max_tokens = static_cast<double>(options.max_tokens);
  return shape;
}

double kv_cache_bytes(const ModelConfig& config, const AttentionShape& shape, double tokens, double element_size) {
  const double of_token = 2 * static_cast<double>(config.head_dim) * element_size;
  return of_token * (shape.full_groups * tokens + shape.local_groups * std::min(tokens, shape.near_tokens));
}

double index_cache_bytes(const AttentionShape& shape, double tokens, double element_size) {
  return shape.full_groups * tokens * shape.index_dim * element_size;
}

double tokens_in(const ModelConfig& config, const AttentionShape& shape, double element_size, double bytes) {
  const auto cache = [&](double tokens) {
    return kv_cache_bytes(config, shape, tokens, element_size) + index_cache_bytes(shape, tokens, element_size);
  };
  // Two straight lines: steep while every group grows, then only the full ones.
  const double bend = shape.local_groups > 0 ? shape.near_tokens : 0;
  if (bytes <= 0) {
    return 0;
  }
  if (bytes < cache(bend)) {
    return std::floor(bytes / (cache(bend) / bend));
  }
  const double slope = cache(bend + 1) - cache(bend);
  return slope > 0 ? std::floor(bend + (bytes - cache(bend)) / slope) : INFINITY;
}

double Work::seconds(double flops_per_second, double bytes_per_second) const {
  return std::max(flops / flops_per_second, bytes / bytes_per_second);
}

Work prefill_work(const ModelConfig& config, const AttentionShape& shape, double tokens, double element_size) {
  const ParameterCounts counts = count_parameters(config);
  const auto head_dim = static_cast<double>(config.head_dim);
  const double pairs = shape.retrieval_heads * visible_pairs(tokens, tokens) +
                       shape.local_heads * visible_pairs(tokens, shape.near_tokens);
  Work work;
  work.flops = 2 * counts.active_in_layers() * tokens + 2 * head_matrix(config) + 4 * head_dim * pairs +
               2 * shape.index_dim * head_dim * shape.full_groups * tokens;

  const double experts_used = std::min(counts.experts, counts.active_experts * tokens);
  const double weights = counts.attention + counts.mlp + counts.router + counts.norms + experts_used +
                         head_matrix(config) + tokens * static_cast<double>(config.hidden_size);
  // Keys and values of all heads are made and used, whether they are kept or not: written once, read once.
  const double key_values = 2 * 2 * head_dim * key_value_heads(config) * tokens;
  work.bytes = element_size * (weights + key_values);
  return work;
}

Work decode_work(const ModelConfig& config, const AttentionShape& shape, double tokens, double element_size) {
  const ParameterCounts counts = count_parameters(config);
  const auto head_dim = static_cast<double>(config.head_dim);
  const double near = std::min(tokens, shape.near_tokens);
  const double far = shape.index_dim > 0 ? tokens - near : 0;
  const double picked = std::min(far, shape.max_tokens);
  const double seen_by_retrieval = shape.index_dim > 0 ? near + picked : tokens;
  Work work;
  work.flops = 2 * counts.active_in_layers() + 2 * head_matrix(config) +
               4 * head_dim * (shape.local_heads * near + shape.retrieval_heads * seen_by_retrieval) +
               2 * shape.index_dim * head_dim * (shape.retrieval_heads + shape.full_groups) +
               2 * shape.index_dim * shape.retrieval_heads * far;

  const double weights =
      counts.active_in_layers() + counts.norms + head_matrix(config) + static_cast<double>(config.hidden_size);
  const double shared_rows = shape.local_groups * near + shape.full_groups * (shape.index_dim > 0 ? near : tokens);
  const double picked_rows = std::min(shape.retrieval_heads * picked, shape.full_groups * far);
  work.bytes =
      element_size * (weights + 2 * head_dim * (shared_rows + picked_rows) + shape.index_dim * shape.full_groups * far);
  return work;
}

}  // namespace retrosparse
