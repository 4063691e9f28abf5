#pragma once
#include <string>
#include <vector>

#include "plan/conversion.h"
#include "plan/layer_heads.h"

namespace retrosparse {

// What is alive, tensor by tensor, in the code of the stages. Sizes in elements are written as in the comments there:
// T or n tokens, H query heads, K key/value heads, R retrieval heads of a layer, D head_dim, I intermediate_size.

/// Tensors that are held at the same time.
struct Moment {
  std::string name;
  std::vector<MemoryTerm> terms;

  double bytes() const;
  Moment& add(const std::string& what, double bytes);
  Moment& add(const Moment& other);
};

/// How the heads of a forward pass attend.
enum class HeadsAttend { kDense, kAsPlanned };

/// Tensors of a forward pass of `tokens` tokens without gradients, where the most is alive: in a layer's attention and
/// in its feed-forward network. `cached_before`: some tokens may be in a cache, so that two parts are merged.
Moment attention_memory(const ConversionPlan& plan, double tokens, HeadsAttend heads, bool has_cache);
Moment feed_forward_memory(const ConversionPlan& plan, double tokens);

/// Keys and values of one sequence; with `index`, the index keys of its retrieval heads too, and where the recipe wants
/// a tail the mean values of its blocks.
Moment cache_memory(const ConversionPlan& plan, double tokens, bool index);

/// IndexLoss at one layer of a pass over a whole document, `rows` rows of it learned or only measured.
Moment index_loss_memory(const ConversionPlan& plan, double rows, bool with_gradients);

/// The choice of far tokens for `rows` rows; by blocks of at most `most_scores` scores. `paper`: of the paper's rule.
Moment selection_memory(const ConversionPlan& plan, double rows, double most_scores, bool paper);

/// The tail of `rows` rows where the recipe wants one (tail_shares), by blocks of at most `most_scores` scores.
Moment tail_memory(const ConversionPlan& plan, double rows, double most_scores);

/// The choice of tiles for a chunk of the prompt without our own kernel, with its tail: by blocks of rows
/// (for_each_row_block).
Moment tile_memory(const ConversionPlan& plan);

/// Scores of label rows and what their comparison takes; `kept`: tensors of scores that are held besides.
Moment score_memory(const ConversionPlan& plan, double rows, int kept);

/// The dense model's scores of `rows` rows, for stage 2.
Moment answer_memory(const ConversionPlan& plan, double rows);

/// Everything that stage 2's forward pass over a document leaves for backward, and what backward adds: of `sparse_rows`
/// rows of each retrieval head that pick tokens, and `learned_rows` rows with scores of all tokens.
Moment graph_memory(const ConversionPlan& plan, double tokens, double sparse_rows, double learned_rows);

/// Whether prefill runs by our own kernel: on this machine, and with this model's heads (ops::serves_prefill).
bool runs_own_kernels(const ConversionPlan& plan);

/// The weights once, in the dtype of the plan.
double weight_bytes(const ConversionPlan& plan);

/// Scores that SparseAttention computes at a time.
double scores_at_once(const ConversionPlan& plan);

/// Rows that the local heads' attention takes at a time without our own kernels (rows_per_block in PlannedAttention),
/// and the keys that such a block sees.
double local_block_rows(const ConversionPlan& plan);
double local_block_keys(const ConversionPlan& plan);

/// Rows of a layer's IndexLoss that run together.
double index_loss_rows_at_once(const ConversionPlan& plan, double heads, double rows);

}  // namespace retrosparse
