#pragma once
#include "model/attention.h"
#include "model/planned_attention.h"
#include "sparse/sparse_attention.h"

namespace retrosparse {

/// The converted model's attention with gradients in q, k and v, over a whole sequence at once (no cache): what
/// SparseAttention computes, for stage 2. Rows before `sparse_from` are prefill rows, with dense retrieval heads; the
/// others pick by the index, which is fixed and gets no gradient, nor does what it says of the tail. Memory: n x T
/// scores for each retrieval head, n the number of sparse rows.
class TrainableSparseAttention : public Attention {
 public:
  /// `model` must outlive this object. sparse_from >= window + sink_tokens, so that every sparse row has far keys.
  TrainableSparseAttention(const SparseModel& model, int64_t sparse_from);

  at::Tensor forward(const AttentionInput& input) override;

 private:
  /// The last rows of a sequence; k_pre_rope [S, K, D] of all its tokens.
  at::Tensor sparse_rows(const AttentionInput& rows, const at::Tensor& k_pre_rope) const;
  // What sparse rows attend to, without gradients.
  struct Choice {
    at::Tensor hidden;  // bool [R, n, S]: neither sinks, nor window, nor picked
    TailShares tail;    // where there is one
  };
  Choice choose(const AttentionInput& rows, const at::Tensor& k_pre_rope, const at::Tensor& lse_local) const;
  // The same for as many rows as one wants scores of at a time; index_keys and lse_local are those of the rows.
  Choice choose_block(const AttentionInput& rows, const at::Tensor& index_keys, const at::Tensor& lse_local) const;
  at::Tensor attend_with_tail(const AttentionInput& rows, const Choice& choice, size_t place) const;

  const SparseModel& model_;
  PlannedAttention planned_;
  int64_t sparse_from_;
};

}  // namespace retrosparse
