#pragma once
#include <cstdint>

#include "model/config.h"
#include "plan/parameters.h"

namespace retrosparse {

/// The sparse model whose cost is asked for: the method of arXiv 2605.16928 with this project's shared index keys.
struct SparseOptions {
  int64_t window = 8192;          ///< latest tokens that a local head sees
  int64_t sink_tokens = 4;        ///< first tokens that it sees besides
  double retrieval_share = 0.15;  ///< of all query heads, that keep the whole context
  int64_t index_dim = 16;         ///< r: of the low-rank index by which they pick tokens at decode
  int64_t max_tokens = 1024;      ///< that a retrieval head picks beyond window and sinks: the cap, so the most
};

/// Where the retrieval heads lie: a key/value head keeps its whole cache as soon as one of the query heads that read it
/// is a retrieval head, so the cache depends on how they spread over the key/value heads.
enum class Spread {
  kRandom,  ///< each choice of retrieval heads equally likely: the expected number of such key/value heads
  kWorst,   ///< each retrieval head on a key/value head of its own
};

/// Attention as the formulas below see it: numbers of heads over all layers, not whole ones where they are
/// expectations.
struct AttentionShape {
  double local_heads = 0;      ///< query heads that see sinks and window
  double retrieval_heads = 0;  ///< query heads that see everything
  double local_groups = 0;     ///< key/value heads of which sinks and window are kept
  double full_groups = 0;      ///< key/value heads that are kept whole
  double near_tokens = 0;      ///< sinks and window
  double index_dim = 0;        ///< 0: no index, retrieval heads attend to everything at decode too
  double max_tokens = 0;       ///< picked through the index for each retrieval head and token
};

AttentionShape dense_shape(const ModelConfig& config);
AttentionShape sparse_shape(const ModelConfig& config, const SparseOptions& options, Spread spread);

/// Bytes of the KV cache of one sequence of `tokens`: 2 D for each key/value head and token that is kept.
double kv_cache_bytes(const ModelConfig& config, const AttentionShape& shape, double tokens, double element_size);

/// Bytes of the index keys: r for each token and each key/value head that is kept whole.
double index_cache_bytes(const AttentionShape& shape, double tokens, double element_size);

/// The longest sequence whose KV and index cache fit into `bytes`, in whole tokens.
double tokens_in(const ModelConfig& config, const AttentionShape& shape, double element_size, double bytes);

/// Work of one forward pass.
struct Work {
  double flops = 0;
  double bytes = 0;  ///< moved between memory and processor, at the least

  /// The roofline bound: a pass cannot take less.
  double seconds(double flops_per_second, double bytes_per_second) const;
};

/// The whole prompt at once. FLOPs: 2 for each weight and token; 4 D for each pair of query and visible key and query
/// head (scores and weighted values); the head on the last token; 2 r D for each new index key. Bytes: every weight
/// that is used and every key and value once; activations are not counted.
Work prefill_work(const ModelConfig& config, const AttentionShape& shape, double tokens, double element_size);

/// One more token, `tokens` being in the cache with it. Of the retrieval heads' index: 2 r D for the query and the new
/// key, 2 r for the score of each far token. Bytes: active weights, the embedding's row, keys and values that are
/// visible (picked ones for each retrieval head apart, though never more than the whole cache), index keys.
Work decode_work(const ModelConfig& config, const AttentionShape& shape, double tokens, double element_size);

}  // namespace retrosparse
