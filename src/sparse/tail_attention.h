#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "model/attend.h"
#include "sparse/far_scores.h"
#include "sparse/indexer.h"
#include "sparse/selection.h"

namespace retrosparse {

/// Means of the values over blocks of consecutive tokens, kept beside the KV cache of a layer and brought up to date as
/// blocks fill. Blocks begin after the sinks: block b holds the tokens [sink_tokens + b B, sink_tokens + (b + 1) B).
class ValueMeans {
 public:
  ValueMeans(int64_t sink_tokens, int64_t block) : sink_tokens_(sink_tokens), block_(block) {}

  /// Forgets what was made of tokens from position `length` on.
  void truncate(int64_t length);

  /// Of v [S, K, D] and the KV groups int64 [Kr]: float32 [Kr, blocks, D], of the blocks that S tokens fill.
  at::Tensor update(const at::Tensor& v, const at::Tensor& groups);

 private:
  int64_t sink_tokens_, block_;
  at::Tensor means_;        // [Kr, capacity, D]
  int64_t num_blocks_ = 0;  // that are there
};

/// What the index says of the far tokens that n rows did not pick. The paper drops them, so that what is picked weighs
/// too much.
struct TailShares {
  at::Tensor of_blocks;  ///< [R, n, blocks]: sum_{unpicked n of the block} exp(z_n) / sum_{unpicked n} exp(z_n)
  at::Tensor lse;        ///< [R, n]: log sum_{unpicked n} exp(z_n) + gate; -inf where nothing is left
};

/// From the index scores of the keys from position 0 on, float32 [R, n, keys], -inf where a key was picked or is not
/// far, and the gates [R, n]. The blocks, those of ValueMeans, cover all far keys where a block is no longer than the
/// window.
TailShares tail_shares(const at::Tensor& unpicked_scores, const at::Tensor& gate, int64_t num_blocks,
                       int64_t sink_tokens, int64_t block);

/// bool [R, n, num_keys]: which keys rows picked.
at::Tensor picked_keys(const PickedTokens& picked, int64_t num_keys);

/// The shares where rows picked tokens; scores, far and gate are those of `input`.
TailShares tail_shares(const SelectionInput& input, const PickedTokens& picked, int64_t num_blocks, int64_t sink_tokens,
                       int64_t block);

/// Those tokens with the mean of their block as their value: out [n, R, D] float32 and lse [n, R], to be merged with
/// the exact attention over all others. means float32 [Kr, blocks, D], of ValueMeans.
PartialAttention attend_tail(const TailShares& shares, const at::Tensor& means, const at::Tensor& group_of_head);

/// What the tail of n queries is made from; S keys, the last of them the last query's own.
struct TailInput {
  at::Tensor index_queries;  ///< float32 [R, n, r]: LayerIndexer::queries
  at::Tensor index_keys;     ///< float32 [Kr, S, r]: LayerIndexer::keys
  at::Tensor gate;           ///< float32 [R, n]: LayerIndexer::gate
  at::Tensor means;          ///< float32 [Kr, blocks, D]: of ValueMeans
  int64_t block = 0;         ///< tokens of a block
};

/// The tail from the beginning: `attended` says for rows which far keys count exactly, bool [R, num_queries or 1,
/// far_end]. As attend_tail, with lse = -inf and out = 0 where nothing is left. Memory linear in S.
PartialAttention attend_tail(const LayerIndexer& layer, const TailInput& input, LocalWindow local,
                             const std::function<at::Tensor(const RowBlock&)>& attended);

}  // namespace retrosparse
