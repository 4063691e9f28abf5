#include "plan/work.h"

#include <algorithm>
#include <cmath>

#include "plan/cost.h"
#include "plan/memory.h"

namespace retrosparse {
namespace {

constexpr double kFloat = 4, kLong = 8;  // bytes

double as_double(int64_t value) {
  return static_cast<double>(value);
}

// Pairs of a query and a key that it sees, over all heads of the model.
double visible_pairs(const ConversionPlan& plan, double tokens, bool all_dense) {
  const double heads = as_double(plan.config.num_hidden_layers * plan.config.num_attention_heads);
  const double retrieving = all_dense ? heads : total(layer_heads(plan)).heads;
  const double near = std::min(tokens, as_double(plan.recipe.plan.window + plan.recipe.plan.sink_tokens));
  return retrieving * tokens * (tokens + 1) / 2 +
         (heads - retrieving) * (near * (near + 1) / 2 + (tokens - near) * near);
}

// Elements that a token's element-wise operations read and write in all layers.
double moved_elements(const ModelConfig& config) {
  const double hidden = as_double(config.hidden_size);
  const double q = as_double(config.num_attention_heads * config.head_dim);
  const double kv = as_double(config.num_key_value_heads * config.head_dim);
  double moved = 0;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    moved += 2 * 2 * hidden + 2 * 3 * hidden;                     // norms, residual sums
    moved += hidden + (q + 2 * kv) + q + hidden;                  // into and out of the projections
    moved += (config.qk_norm ? 4 : 0) * (q + kv) + 2 * (q + kv);  // norms of queries and keys with a copy, RoPE
    moved += 4 * kv + 2 * q + 2 * kv;                             // into the cache, attention
    const bool experts = config.has_experts(layer);
    const double rows = experts ? as_double(config.experts->num_experts_per_tok) : 1;
    const double inner = as_double(experts ? config.experts->intermediate_size : config.intermediate_size);
    moved += rows * (hidden + 2 * inner + 2 * inner + 3 * inner + inner + hidden) + (experts ? 8 * rows * hidden : 0);
  }
  return moved;
}

// Tensor operations of a pass that attends with `of_attention` of them.
double forward_launches(const ModelConfig& config, double of_attention) {
  constexpr double kOfLayer = 14, kOfHeadNorms = 4, kOfExperts = 20, kAround = 12;
  double launches = kAround + of_attention;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    launches += kOfLayer + (config.qk_norm ? kOfHeadNorms : 0) + (config.has_experts(layer) ? kOfExperts : 0);
  }
  return launches;
}

// Without our own kernels a block of the local heads' rows takes about 25 operations (positions, mask, copies of keys,
// attention), a dense set about 15 with the merge.
double attention_launches(const ConversionPlan& plan, double tokens, bool all_dense) {
  constexpr double kOfBlock = 25, kOfDense = 15;
  const double layers = as_double(plan.config.num_hidden_layers);
  if (runs_own_kernels(plan)) {
    return 3 * layers;  // output, counter, kernel
  }
  if (all_dense) {
    return kOfDense * layers;
  }
  const LayerHeads all = total(layer_heads(plan));
  return kOfDense * (all.sets - all.local_sets) +
         kOfBlock * all.local_sets * std::ceil(tokens / local_block_rows(plan));
}

}  // namespace

Effort& Effort::operator+=(const Effort& other) {
  product_flops += other.product_flops;
  float32_flops += other.float32_flops;
  bytes += other.bytes;
  launches += other.launches;
  return *this;
}

double Effort::seconds(const Machine& machine) const {
  const double working = product_flops / machine.product_flops_per_second +
                         float32_flops / machine.float32_flops_per_second + bytes / machine.bytes_per_second;
  const double launching = launches * machine.launch_seconds;
  return machine.is_cpu ? working + launching : std::max(working, launching);
}

Effort operator*(double times, Effort effort) {
  return {times * effort.product_flops, times * effort.float32_flops, times * effort.bytes, times * effort.launches};
}

Effort operator+(Effort a, const Effort& b) {
  return a += b;
}

Effort forward_effort(const ConversionPlan& plan, double tokens, double chunk, bool all_dense) {
  const ParameterCounts counts = count_parameters(plan.config);
  const double chunks = std::ceil(tokens / chunk);
  Effort effort;
  effort.product_flops = 2 * counts.active_in_layers() * tokens +
                         4 * as_double(plan.config.head_dim) * visible_pairs(plan, tokens, all_dense);
  const double experts = std::min(counts.experts, counts.active_experts * std::min(tokens, chunk));
  effort.bytes =
      plan.element_size * (tokens * moved_elements(plan.config) + chunks * (counts.attention + counts.mlp + experts));
  effort.launches =
      chunks * forward_launches(plan.config, attention_launches(plan, std::min(tokens, chunk), all_dense));
  return effort;
}

Effort index_loss_effort(const ConversionPlan& plan, double rows, bool with_gradients) {
  const double tokens = as_double(plan.recipe.context_length), head_dim = as_double(plan.config.head_dim);
  const double index_dim = as_double(plan.recipe.index.index_dim);
  // Operations on tensors of scores: masks (9 times), log-softmax (2), log-sum-exp (3, five passes each), exp, products
  // and sums, and for backward as many again as a quarter; 4 bytes read or written in each pass.
  constexpr double kPasses = 48, kPassesBack = 18, kLaunches = 70, kLaunchesBack = 60;
  Effort effort;
  for (const LayerHeads& layer : layer_heads(plan)) {
    if (layer.heads == 0) {
      continue;
    }
    const double scores = layer.heads * rows * tokens;
    const double blocks = std::ceil(rows / index_loss_rows_at_once(plan, layer.heads, rows));
    const double keys = blocks * layer.groups * tokens * head_dim;
    effort.float32_flops += 2 * head_dim * scores + (with_gradients ? 3 : 1) * 2 * index_dim * (scores + keys);
    effort.bytes += kFloat * (kPasses + (with_gradients ? kPassesBack : 0)) * scores + 6 * kFloat * keys;
    effort.launches += blocks * (kLaunches + (with_gradients ? kLaunchesBack : 0));
  }
  return effort;
}

Effort label_rows_effort(const ConversionPlan& plan, double rows, double picked, bool paper) {
  const double tokens = as_double(plan.recipe.context_length), head_dim = as_double(plan.config.head_dim);
  const double vocab = as_double(plan.config.vocab_size);
  const ParameterCounts counts = count_parameters(plan.config);
  Effort effort;
  effort.product_flops = 2 * (counts.active_in_layers() + vocab * as_double(plan.config.hidden_size)) * rows;
  effort.bytes = plan.element_size * (rows * moved_elements(plan.config) + counts.attention + counts.mlp) +
                 60 * rows * vocab;  // score_rows: about eight passes of float64
  constexpr double kScoring = 25;
  effort.launches = kScoring + forward_launches(plan.config, attention_launches(plan, rows, picked == 0));
  if (picked == 0) {
    effort.product_flops += 4 * head_dim * rows * tokens * total(layer_heads(plan)).heads;
    return effort;
  }
  // On a GPU a sort takes eight passes over keys and positions, once or for the paper's rule twice; choosing takes
  // about 25 passes more. On the CPU scores are masked, summed and ranked.
  constexpr double kGathered = 0x1p24;  // kScratch of attend_picked()
  constexpr double kOfBlock = 70, kOfGather = 14;
  const double sorts = paper ? 2 : 1;
  const double of_score = plan.machine.is_cpu ? 20 * kFloat : sorts * 8 * 2 * (kFloat + kLong) + 25 * kFloat;
  for (const LayerHeads& layer : layer_heads(plan)) {
    if (layer.heads == 0) {
      continue;
    }
    const double scores = layer.heads * rows * tokens;
    const double blocks = std::ceil(scores / scores_at_once(plan));
    const double gathers =
        plan.machine.is_cpu ? blocks : std::ceil(rows / std::max(kGathered / (layer.heads * picked * head_dim), 1.0));
    effort.float32_flops += 2 * as_double(plan.recipe.index.index_dim) * scores;
    effort.product_flops += 4 * head_dim * layer.heads * rows * picked;
    effort.bytes += of_score * scores + 4 * plan.element_size * layer.heads * rows * picked * head_dim;
    effort.launches += blocks * kOfBlock + gathers * kOfGather;
  }
  return effort;
}

Effort distill_effort(const ConversionPlan& plan, double tokens, double label_rows) {
  ConversionPlan plain = plan;
  plain.machine.has_own_kernels = false;  // they have no gradients
  const double blocks = std::ceil(tokens / local_block_rows(plan));
  const double q = as_double(plan.config.num_attention_heads * plan.config.head_dim);
  const double kv = as_double(plan.config.num_key_value_heads * plan.config.head_dim);
  // Backward: twice the products, attention once more than that; element-wise about three times, norms in float32.
  Effort effort = 3.5 * forward_effort(plain, tokens, tokens, /*all_dense=*/false);
  // Each block of the local heads' rows adds its gradients to those of all queries, keys and values.
  effort.bytes += 3 * plan.element_size * blocks * tokens * (q + 2 * kv) * as_double(plan.config.num_hidden_layers);
  return effort + 3 * label_rows_effort(plain, label_rows, as_double(plan.recipe.selection.gate.max_tokens), false);
}

Effort optimizer_effort(const ConversionPlan& plan) {
  const double parameters = count_parameters(plan.config).total();
  // Norm of the gradients by float64 (28 bytes), AdamW in float32 (7 passes), and the tensors one by one.
  const double tensors = 3 + 9 * as_double(plan.config.num_hidden_layers);
  return {.bytes = (28 + 7 * kFloat) * parameters, .launches = 8 * tensors};
}

}  // namespace retrosparse
