#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/attention.h"
#include "sparse/head_plan.h"
#include "sparse/indexer.h"

namespace retrosparse {

/// Which distribution the index learns.
enum class IndexTarget {
  kFar,   ///< the attention over keys beyond window and sinks, renormalised; rows weighted by their far mass
  kFull,  ///< the attention over all causal keys (arXiv 2605.16928); rows weighted equally
};

/// Sums over rows, for each retrieval head of a layer, float64 [R] on the CPU: divide by `weight` or `rows`.
struct IndexStatistics {
  at::Tensor weighted_kl;  ///< weight x KL(true attention || index), nats
  at::Tensor kl;           ///< the same, every row counting 1
  at::Tensor weight;       ///< the rows' weights: their far mass, or 1
  at::Tensor gate_loss;    ///< binary cross-entropy of the far-mass estimate
  int64_t rows = 0;
};

/// Adds up, while a forward pass runs, the losses of every layer's index at some of its rows, and their gradients: each
/// block of rows is computed, differentiated and forgotten, so that memory holds one block of scores and never T x T.
///   projections: mean over the rows of weight x KL(true attention || softmax of the index scores)
///   gate: mean over the rows of BCE(sigmoid(LSE_far(index) + w . q + b - LSE_local), true far mass), the index fixed
/// The pass must be over the whole sequence at once, without a cache.
class IndexLoss : public AttentionObserver {
 public:
  /// `rows`: positions in ascending order, each with at least one far key. The gradients of all layers are multiplied
  /// by `scale` (1 / documents in a step). With `scale` 0 nothing is differentiated.
  IndexLoss(const HeadPlan& plan, const Indexer& indexer, IndexTarget target, std::vector<int64_t> rows, double scale);

  void observe(const AttentionInput& input) override;

  const std::vector<IndexStatistics>& statistics() const { return statistics_; }  ///< by layer; no rows: no heads there

 private:
  struct Exact;  // the true attention of a block
  void block(const AttentionInput& input, const at::Tensor& rows);

  const HeadPlan& plan_;
  const Indexer& indexer_;
  IndexTarget target_;
  std::vector<int64_t> rows_;
  double scale_;
  std::vector<IndexStatistics> statistics_;
};

/// The first position that has a far key.
inline int64_t first_far_row(LocalWindow local) {
  return local.window + local.sink_tokens;
}

/// `count` different positions in [first, end), ascending, by seed; all of them where there are no more.
std::vector<int64_t> sample_rows(int64_t first, int64_t end, int64_t count, uint64_t seed);

}  // namespace retrosparse
