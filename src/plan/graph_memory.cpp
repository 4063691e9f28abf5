#include <algorithm>
#include <cmath>

#include "plan/memory.h"

namespace retrosparse {
namespace {

// What one layer's local heads keep for backward: blocks of rows, each with its own copy of the keys and values that it
// sees (TrainableSparseAttention runs without our own kernels, which have no gradients) and a mask.
double local_blocks(const ConversionPlan& plan, const LayerHeads& layer, double tokens) {
  const double e = plan.element_size, rows = local_block_rows(plan), keys = local_block_keys(plan);
  const auto kv = static_cast<double>(plan.config.num_key_value_heads * plan.config.head_dim);
  const double blocks = std::ceil(tokens / rows);
  // With heads of both kinds in a group, it is in a set of each; the local sets cover all groups that are not wholly
  // retrieving, at most all.
  const double copies = 2 * e * blocks * keys * kv;
  const double masks = layer.local_sets * e * tokens * std::ceil(keys / 8) * 8;
  return layer.local_sets > 0 ? copies + masks : 0;
}

// What one layer's retrieval heads keep of `rows` rows that pick: without a tail a bias [n, T] each; with one their
// shares in float32, what is hidden (bool), the tail's shares of its blocks, and the head's values in float32 [T, D].
double sparse_heads(const ConversionPlan& plan, double heads, double tokens, double rows) {
  const auto block = static_cast<double>(plan.recipe.selection.tail_block);
  if (block == 0) {
    return plan.element_size * heads * rows * tokens;
  }
  return heads * tokens * (rows * (4 + 1 + 4 / block) + 4 * static_cast<double>(plan.config.head_dim));
}

}  // namespace

Moment graph_memory(const ConversionPlan& plan, double tokens, double sparse_rows, double learned_rows) {
  const ModelConfig& config = plan.config;
  const double e = plan.element_size;
  const auto hidden = static_cast<double>(config.hidden_size), inner = static_cast<double>(config.intermediate_size);
  const auto q = static_cast<double>(config.num_attention_heads * config.head_dim);
  const auto kv = static_cast<double>(config.num_key_value_heads * config.head_dim);
  const auto near = static_cast<double>(plan.recipe.plan.window + plan.recipe.plan.sink_tokens);
  const std::vector<LayerHeads> heads = layer_heads(plan);
  double streams = 0, attention = 0, feed_forward = 0, blocks = 0, masks = 0;
  for (int64_t index = 0; index < config.num_hidden_layers; ++index) {
    const LayerHeads& layer = heads[static_cast<size_t>(index)];
    // Inputs of both norms and their outputs, inputs of the next matrices: [T, 4 hidden].
    streams += 4 * e * tokens * hidden;
    // Queries, keys, values as projected [T, (H + 2 K) D]; after RoPE [T, (H + K) D]; the kernels' output and the whole
    // layer's [T, 2 H D]; log-sum-exps float32 [T, H].
    attention += e * tokens * (4 * q + 3 * kv) + 4 * tokens * static_cast<double>(config.num_attention_heads);
    blocks += tokens > near ? local_blocks(plan, layer, tokens) : 0;
    masks += sparse_heads(plan, layer.heads, tokens, sparse_rows);
    if (config.has_experts(index)) {
      const auto picks = static_cast<double>(config.experts->num_experts_per_tok);
      const auto size = static_cast<double>(config.experts->intermediate_size);
      // Rows by expert, gate and up, silu, product, outputs by token, and those in float32 for their weights.
      feed_forward += e * tokens * picks * (2 * hidden + 4 * size) + 4 * tokens * picks * hidden +
                      4 * tokens * static_cast<double>(config.experts->num_experts);
    } else {
      feed_forward += 4 * e * tokens * inner;  // gate and up, silu, product: [T, 4 I]
    }
  }
  Moment moment{"the pass over a document with gradients", {}};
  moment.add("kept for backward: hidden states and norms, 4 [T, hidden] a layer", streams);
  moment.add("kept for backward: queries, keys, values, outputs", attention);
  moment.add("kept for backward: keys and masks of the local heads' blocks", blocks);
  moment.add(plan.recipe.selection.tail_block > 0 ? "kept for backward: shares and masks of sparse rows [R, n, T]"
                                                  : "kept for backward: masks of sparse rows [R, n, T]",
             masks);
  moment.add("kept for backward: feed-forward networks", feed_forward);
  moment.add("RoPE tables, float32 [T, D]", 4 * tokens * static_cast<double>(config.head_dim));
  // Scores in the dtype of the weights and in float32, and the gradients of both.
  const double conversions = e < 4 ? e + 4 : 4;
  moment.add("scores of the learned rows and their gradients [rows, vocab]",
             2 * conversions * learned_rows * static_cast<double>(config.vocab_size));
  // Backward begins at the last layer with everything still there: the norm's backward in float32 (input, gradient,
  // normalised, weighted, two products), or the feed-forward network's gradients (product, silu, and gate and up in
  // three parts).
  moment.add("gradients on their way back", std::max(6 * 4 * tokens * hidden, 8 * e * tokens * inner));
  return moment;
}

}  // namespace retrosparse
