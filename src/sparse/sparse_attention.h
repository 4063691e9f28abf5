#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "model/attention.h"
#include "model/planned_attention.h"
#include "ops/decode_attention.h"
#include "sparse/head_plan.h"
#include "sparse/indexer.h"
#include "sparse/picked_attention.h"
#include "sparse/prefill_settings.h"
#include "sparse/selection.h"
#include "sparse/tail_attention.h"
#include "sparse/tile_selection.h"

namespace retrosparse {

/// How much is picked: the rule and its settings.
struct SelectionSettings {
  SelectionRule rule = SelectionRule::kTopP;
  std::vector<std::vector<GateSettings>> gates;  ///< [layer][its retrieval heads]
  /// Picks by the exact attention scores instead of the index's: with top_k the oracle, which no index can beat at the
  /// same number of tokens. Reads every key, so that it only serves to measure and cannot be exported.
  bool by_exact_scores = false;
  /// What becomes of far tokens that are not picked, or outside the tiles of prefill: 0: nothing; otherwise they count
  /// with the index's mass and the mean value of their block of so many tokens (tail_attention.h). At most the window.
  int64_t tail_block = 0;

  /// The same for every retrieval head of a plan.
  static SelectionSettings uniform(const HeadPlan& plan, SelectionRule rule, const GateSettings& gate);
};

/// A converted model's settings: what config.json says under "retrosparse", and the indexer.
struct SparseModel {
  HeadPlan plan;
  Indexer indexer;
  SelectionSettings selection;
  PrefillSettings prefill;
};

/// How much the sparse rows of one retrieval head, or of several, picked.
struct SelectionCounts {
  int64_t rows = 0;           ///< of each head, sum
  int64_t far_tokens = 0;     ///< picked, sum
  int64_t far_available = 0;  ///< far keys that there were, sum
  void add(const SelectionCounts& other) {
    rows += other.rows;
    far_tokens += other.far_tokens;
    far_available += other.far_available;
  }
  double mean() const { return rows == 0 ? 0 : static_cast<double>(far_tokens) / static_cast<double>(rows); }
};

/// The same for each head: [layer][its retrieval heads].
using HeadCounts = std::vector<std::vector<SelectionCounts>>;

/// The sum over all heads.
SelectionCounts total(const HeadCounts& counts);
/// Adds head by head; an empty sum takes the other's shape.
void add(HeadCounts& sum, const HeadCounts& counts);

/// The converted model: local heads see sinks and window. Retrieval heads are dense in prefill, or see sinks, window
/// and the far keys of the tiles that their index selects; for sparse rows they see sinks, window and the far tokens
/// that their index picks. Tensor code, and kernels where they serve; no gradients. One object serves one sequence at a
/// time: it keeps the index keys beside the KV cache, and forgets them when a sequence starts anew at position 0.
class SparseAttention : public Attention {
 public:
  /// `model` must outlive this object.
  explicit SparseAttention(const SparseModel& model);

  /// Rows from this position on are sparse; before it, and by default everywhere, they are prefill rows. To generate,
  /// set it to the prompt's length; to score a whole answer in one pass, to its first label row.
  void set_sparse_from(int64_t position) { sparse_from_ = position; }

  /// Picks by other settings than the model's from now on.
  void set_selection(SelectionSettings selection) { selection_ = std::move(selection); }

  /// Prefills otherwise than the model says from now on.
  void set_prefill(PrefillSettings prefill) { prefill_ = std::move(prefill); }

  at::Tensor forward(const AttentionInput& input) override;

  /// Gets what sparse rows pick from now on: those of a layer from `first_position` on, as select_tokens returns it.
  /// Then no kernel runs for them, since a kernel does not keep the order of scores.
  using PickObserver = std::function<void(int64_t layer, int64_t first_position, const PickedTokens& picked)>;
  void observe_picks(PickObserver observer) { observe_picks_ = std::move(observer); }

  /// Of everything since the last call of reset_counts. Waits for the device.
  HeadCounts counts() const;
  const TileCounts& tile_counts() const { return tile_counts_; }
  void reset_counts();

 private:
  struct IndexKeys {
    at::Tensor keys;  // [Kr, capacity, r]
    int64_t length = 0;
    at::Tensor packed;  // bfloat16, for the kernels: the first packed_length of them
    int64_t packed_length = 0;
  };
  struct LayerCounts {
    int64_t rows = 0, far_available = 0;
    at::Tensor far_tokens;  // int64 [R], on the device, which nobody wants to wait for at every token
  };
  at::Tensor append_index_keys(const AttentionInput& input);
  at::Tensor packed_index_keys(int64_t layer);
  ValueMeans& tail_of(int64_t layer);
  // What the index says of these rows, with the tail's means where there is a tail.
  TailInput index_input(const AttentionInput& input, const at::Tensor& index_keys);
  at::Tensor attend_sparse_rows(const AttentionInput& input, const at::Tensor& index_keys);
  // How the retrieval heads attend to far keys: by tiles or by tokens. lse_local float32 [R, n].
  using FarAttention = PartialAttention (SparseAttention::*)(const AttentionInput& input, const at::Tensor& index_keys,
                                                             const at::Tensor& lse_local);
  at::Tensor attend_near_and(FarAttention far, const AttentionInput& input, const at::Tensor& index_keys);
  PartialAttention attend_selected_tiles(const AttentionInput& input, const at::Tensor& index_keys,
                                         const at::Tensor& lse_local);
  PartialAttention attend_picked_tokens(const AttentionInput& input, const at::Tensor& index_keys,
                                        const at::Tensor& lse_local);
  PartialAttention attend_picked_block(const AttentionInput& input, const at::Tensor& index_keys,
                                       const at::Tensor& lse_local);
  void count(const AttentionInput& input, const at::Tensor& far_tokens);

  const SparseModel& model_;
  SelectionSettings selection_;
  PrefillSettings prefill_;
  PlannedAttention dense_prefill_;
  int64_t sparse_from_ = std::numeric_limits<int64_t>::max();
  std::vector<IndexKeys> index_;
  std::vector<LayerCounts> counts_;
  TileCounts tile_counts_;
  PickObserver observe_picks_;
  std::vector<ValueMeans> tails_;  // of the layers, for tails of tail_block_; empty: not needed so far
  int64_t tail_block_ = 0;
  ops::DecodeWorkspace workspace_;
};

}  // namespace retrosparse
