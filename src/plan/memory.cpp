#include "plan/memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "plan/cost.h"

namespace retrosparse {
namespace {

constexpr double kFloat = 4, kDouble = 8, kLong = 8;  // bytes
constexpr double kQueryTile = 128;                    // of for_each_row_block()

struct Sizes {
  explicit Sizes(const ModelConfig& config)
      : hidden(static_cast<double>(config.hidden_size)),
        q(static_cast<double>(config.num_attention_heads * config.head_dim)),
        kv(static_cast<double>(config.num_key_value_heads * config.head_dim)),
        head_dim(static_cast<double>(config.head_dim)),
        inner(static_cast<double>(config.intermediate_size)) {}
  double hidden, q, kv, head_dim, inner;  // q = H D, kv = K D
};

// What PlannedAttention and DenseAttention hold beside q, k and v.
double attention_scratch(const ConversionPlan& plan, double tokens, HeadsAttend heads, bool has_cache) {
  const Sizes size(plan.config);
  const double e = plan.element_size, lse = kFloat * tokens * static_cast<double>(plan.config.num_attention_heads);
  if (runs_own_kernels(plan)) {
    return e * tokens * size.q + lse;  // the output [T, H, D] and its lse [H, T]
  }
  // attend(): the kernel's output [K, G, T, D] and its copy as [T, H, D]. merge(): both parts' outputs, each times its
  // share in float32, and their sum.
  const auto dense = [&](double width) { return tokens * width * (has_cache ? 2 * e + 3 * kFloat : 2 * e) + 2 * lse; };
  if (heads == HeadsAttend::kDense) {
    return dense(size.q);
  }
  const LayerHeads layer = fullest(layer_heads(plan));
  const double retrieving = layer.heads * size.head_dim;
  const double mask = local_block_rows(plan) * local_block_keys(plan) * (kLong + 2 + 2 * e);  // distances, bias
  // Either the dense heads run, beside the queries and outputs of the local ones, or the sets' outputs [T, H, D] are
  // put together: they, their concatenation, and that in the heads' order.
  return std::max(e * tokens * (size.q - retrieving) + dense(retrieving) + e * tokens * retrieving,
                  3 * e * tokens * size.q + lse) +
         mask;
}

// Of the layer with the most retrieval heads: R n T for the n of `rows` rows that run together.
double scores_of_block(const ConversionPlan& plan, double rows, double most_scores) {
  const double of_row = fullest(layer_heads(plan)).heads * static_cast<double>(plan.recipe.context_length);
  return of_row * std::clamp(std::floor(most_scores / std::max(of_row, 1.0)), 1.0, rows);
}

}  // namespace

double Moment::bytes() const {
  double sum = 0;
  for (const MemoryTerm& term : terms) {
    sum += term.bytes;
  }
  return sum;
}

Moment& Moment::add(const std::string& what, double bytes) {
  if (bytes > 0) {
    terms.push_back({what, bytes});
  }
  return *this;
}

Moment& Moment::add(const Moment& other) {
  terms.insert(terms.end(), other.terms.begin(), other.terms.end());
  return *this;
}

bool runs_own_kernels(const ConversionPlan& plan) {
  const int64_t head_dim = plan.config.head_dim;
  return plan.machine.has_own_kernels && (head_dim == 64 || head_dim == 128) && plan.config.num_attention_heads <= 256;
}

double weight_bytes(const ConversionPlan& plan) {
  return count_parameters(plan.config).total() * plan.element_size;
}

double scores_at_once(const ConversionPlan& plan) {
  return plan.machine.is_cpu ? 0x1p20 : 0x1p24;  // rows_at_a_time()
}

double local_block_rows(const ConversionPlan& plan) {
  return static_cast<double>(std::clamp<int64_t>(plan.recipe.plan.window / 2 / 64 * 64, 64, 1024));
}

double local_block_keys(const ConversionPlan& plan) {
  return local_block_rows(plan) + static_cast<double>(plan.recipe.plan.window - 1 + plan.recipe.plan.sink_tokens);
}

double index_loss_rows_at_once(const ConversionPlan& plan, double heads, double rows) {
  const double most_scores = plan.machine.is_cpu ? 0x1p22 : 0x1p25;  // scores_per_block in IndexLoss
  return std::clamp(std::floor(most_scores / (heads * static_cast<double>(plan.recipe.context_length))), 1.0, rows);
}

Moment attention_memory(const ConversionPlan& plan, double tokens, HeadsAttend heads, bool has_cache) {
  const Sizes size(plan.config);
  const double e = plan.element_size;
  Moment moment{has_cache ? "attention of a chunk of the prompt" : "attention over a whole document", {}};
  moment.add("hidden states and their norm [T, hidden]", 2 * e * tokens * size.hidden);
  moment.add("queries, keys and values [T, (H + 2 K) D]", e * tokens * (size.q + 2 * size.kv));
  moment.add("queries and keys after their norms [T, (H + K) D]",
             plan.config.qk_norm ? e * tokens * (size.q + size.kv) : 0);
  moment.add("queries and keys after RoPE [T, (H + K) D]", e * tokens * (size.q + (has_cache ? 0 : size.kv)));
  moment.add("RoPE tables, float32 [T, D]", kFloat * tokens * size.head_dim);
  moment.add("attention's output and scratch", attention_scratch(plan, tokens, heads, has_cache));
  return moment;
}

Moment feed_forward_memory(const ConversionPlan& plan, double tokens) {
  const Sizes size(plan.config);
  const double e = plan.element_size;
  Moment moment{"feed-forward network", {}};
  moment.add("hidden states, attention's output, norm [T, hidden]", 3 * e * tokens * size.hidden);
  moment.add("RoPE tables, float32 [T, D]", kFloat * tokens * size.head_dim);
  double dense = 0, experts = 0;
  for (int64_t layer = 0; layer < plan.config.num_hidden_layers; ++layer) {
    if (plan.config.has_experts(layer)) {
      const auto picks = static_cast<double>(plan.config.experts->num_experts_per_tok);
      const auto inner = static_cast<double>(plan.config.experts->intermediate_size);
      // Rows by expert [T picks, hidden] with gate, up, silu and product [T picks, 4 I]; or with hidden [T picks, I],
      // outputs by expert and by token, and the weighted outputs in float32. Beside them routing: probabilities
      // float32 [T, E], and order, experts and rows int64 [T picks].
      const double rows = tokens * picks;
      experts = std::max(e * rows * (size.hidden + 4 * inner),
                         e * rows * (3 * size.hidden + inner) + kFloat * rows * size.hidden) +
                kFloat * tokens * static_cast<double>(plan.config.experts->num_experts) + 4 * kLong * rows;
    } else {
      dense = 4 * e * tokens * size.inner;  // gate and up, silu, product: [T, 4 I]
    }
  }
  moment.add("gate, up, silu and product [T, 4 I]", experts > dense ? 0 : dense);
  moment.add("tokens by expert, through their networks and back", experts > dense ? experts : 0);
  return moment;
}

Moment cache_memory(const ConversionPlan& plan, double tokens, bool index) {
  const Sizes size(plan.config);
  Moment moment{"cache", {}};
  moment.add(fmt::format("keys and values of {:.0f} tokens", tokens),
             2 * plan.element_size * static_cast<double>(plan.config.num_hidden_layers) * tokens * size.kv);
  if (index) {
    const double doubled =
        std::exp2(std::ceil(std::log2(std::max(tokens / std::min(tokens, static_cast<double>(plan.prefill_chunk)),
                                               1.0))));  // grows by doubling from a chunk on
    const double capacity = std::max(tokens, doubled * std::min(tokens, static_cast<double>(plan.prefill_chunk)));
    moment.add("index keys, float32 [Kr, capacity, r]",
               kFloat * total(layer_heads(plan)).groups * capacity * static_cast<double>(plan.recipe.index.index_dim));
    const auto block = static_cast<double>(plan.recipe.selection.tail_block);
    moment.add("mean values of blocks, float32 [Kr, T / block, D]",
               block > 0 ? kFloat * total(layer_heads(plan)).groups * capacity / block * size.head_dim : 0);
  }
  return moment;
}

Moment index_loss_memory(const ConversionPlan& plan, double rows, bool with_gradients) {
  const Sizes size(plan.config);
  const auto tokens = static_cast<double>(plan.recipe.context_length);
  const auto index_dim = static_cast<double>(plan.recipe.index.index_dim);
  Moment most{"the index's loss at a layer", {}};
  for (const LayerHeads& layer : layer_heads(plan)) {
    if (layer.heads == 0) {
      continue;
    }
    const double at_once = index_loss_rows_at_once(plan, layer.heads, rows);
    // float32 [R, n, T] where the product of shares and log-ratios is made: exact scores, index scores, log of the true
    // shares, true shares, the index's log-shares, difference, product; for backward also the log-softmax by itself.
    const double tensors = with_gradients ? 8 : 7;
    Moment moment{most.name, {}};
    moment.add(fmt::format("{} tensors of scores, float32 [R, n, T] by blocks", tensors),
               tensors * kFloat * layer.heads * at_once * tokens);
    moment.add("which keys are near and to come, bool [n, T]", 2 * at_once * tokens);
    moment.add("keys of the retrieval heads, float32 [Kr, T, D], and index keys",
               kFloat * tokens * (layer.groups * (size.head_dim + index_dim) + layer.heads * index_dim));
    if (moment.bytes() > most.bytes()) {
      most = moment;
    }
  }
  return most;
}

Moment selection_memory(const ConversionPlan& plan, double rows, double most_scores, bool paper) {
  const double scores = scores_of_block(plan, rows, most_scores);
  Moment moment{paper ? "choosing far tokens by the paper's rule" : "choosing far tokens", {}};
  if (plan.machine.is_cpu) {  // row by row: a score and, for every pick at most, its position twice
    return moment.add("scores and picked positions of a block", scores * (kFloat + 2 * kLong));
  }
  moment.add("scores and sorted scores with positions [R, n, T]", scores * (2 * kFloat + kLong));
  if (paper) {
    // Shares, what is chosen (bool, twice) and the same as int32, which is sorted once more: into sorted keys and
    // positions, and while it runs keys and twice positions.
    moment.add("shares and what is chosen", scores * (2 * kFloat + 2));
    return moment.add("its sort", scores * (2 * kFloat + 3 * kLong));
  }
  return moment.add("shares, float32 and float64, and their running sums", scores * (kFloat + 3 * kDouble));
}

Moment tail_memory(const ConversionPlan& plan, double rows, double most_scores) {
  Moment moment{"the tail of the far tokens that are not picked", {}};
  if (plan.recipe.selection.tail_block == 0) {
    return moment;
  }
  // Scores of all and of what is left, their distance to the log-sum-exp, shares and those filled up to whole blocks;
  // what is picked (with a column besides), what is not, and what of it is far.
  return moment.add("scores and shares, float32, and what is left, bool [R, n, T]",
                    scores_of_block(plan, rows, most_scores) * (5 * kFloat + 3));
}

Moment tile_memory(const ConversionPlan& plan) {
  Moment moment = tail_memory(plan, kQueryTile, scores_at_once(plan));
  moment.name = "choosing tiles of a chunk of the prompt";
  return moment.add("scores, and those filled up to whole tiles, float32 [R, n, T]",
                    scores_of_block(plan, kQueryTile, scores_at_once(plan)) * 2 * kFloat);
}

Moment score_memory(const ConversionPlan& plan, double rows, int kept) {
  const auto vocab = static_cast<double>(plan.config.vocab_size);
  Moment moment{"comparing label rows", {}};
  moment.add(fmt::format("{} tensors of scores, float32 [rows, vocab]", kept), kFloat * kept * rows * vocab);
  // score_rows(): log-shares of both, shares, difference and product.
  return moment.add("log-shares, shares and their products, float64 [rows, vocab]", 5 * kDouble * rows * vocab);
}

Moment answer_memory(const ConversionPlan& plan, double rows) {
  const double e = plan.element_size;
  return Moment{"the dense model's answers", {}}
      .add("hidden states [rows, hidden]", e * rows * static_cast<double>(plan.config.hidden_size))
      .add("their scores [rows, vocab], in float32 too",
           (e < kFloat ? e + kFloat : kFloat) * rows * static_cast<double>(plan.config.vocab_size));
}

}  // namespace retrosparse
