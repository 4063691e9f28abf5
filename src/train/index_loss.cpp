#include "train/index_loss.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/binary_cross_entropy_with_logits.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>

#include "base/numeric.h"

namespace retrosparse {
namespace {

// Scores in one block: on a GPU 128 MiB in float32, and a few such tensors. On the CPU so few that the C library keeps
// their memory for the next block (it does up to 32 MiB) instead of having it cleared by the system again.
int64_t scores_per_block(const at::Tensor& q) {
  return int64_t{1} << (q.is_cpu() ? 22 : 25);
}

// Log-softmax over the keys that count; 0 elsewhere, so that products with a probability of 0 stay 0.
at::Tensor masked_log_softmax(const at::Tensor& scores, const at::Tensor& hidden) {
  return at::log_softmax(scores.masked_fill(hidden, kMinusInfinity), -1).masked_fill(hidden, 0);
}

void add(at::Tensor& sum, const at::Tensor& rows) {  // rows [R, n]
  sum += rows.detach().sum(-1).to(at::kCPU, at::kDouble);
}

}  // namespace

IndexLoss::IndexLoss(const HeadPlan& plan, const Indexer& indexer, IndexTarget target, std::vector<int64_t> rows,
                     double scale)
    : plan_(plan), indexer_(indexer), target_(target), rows_(std::move(rows)), scale_(scale) {
  for (const LayerIndexer& layer : indexer.layers) {
    const auto zeros = [&] { return at::zeros({layer.num_heads()}, at::kDouble); };
    statistics_.push_back({zeros(), zeros(), zeros(), zeros(), 0});
  }
}

void IndexLoss::observe(const AttentionInput& input) {
  const LayerIndexer& layer = indexer_.layers[static_cast<size_t>(input.layer)];
  if (layer.heads.empty() || rows_.empty()) {
    return;
  }
  const at::Tensor rows = at::tensor(rows_, at::kLong).to(input.q.device());
  const int64_t count = static_cast<int64_t>(rows_.size());
  const int64_t at_once =
      std::clamp<int64_t>(scores_per_block(input.q) / (layer.num_heads() * input.k.size(0)), 1, count);
  for (int64_t first = 0; first < count; first += at_once) {
    block(input, rows.narrow(0, first, std::min(at_once, count - first)));
  }
  statistics_[static_cast<size_t>(input.layer)].rows += count;
}

void IndexLoss::block(const AttentionInput& input, const at::Tensor& rows) {
  const LayerIndexer& layer = indexer_.layers[static_cast<size_t>(input.layer)];
  const LocalWindow local = plan_.local;
  const at::Tensor key = at::arange(input.k.size(0), rows.options()).unsqueeze(0), query = rows.unsqueeze(1);
  const at::Tensor future = key.gt(query);  // [n, S]
  const at::Tensor not_far = key.lt(local.sink_tokens).logical_or(key.gt(query - local.window));

  at::Tensor exact, far_mass, lse_local;
  {
    const at::NoGradGuard no_grad;
    const at::Tensor heads_group = layer.group_index.index_select(0, layer.group_of_head);
    const at::Tensor q = input.q.index_select(0, rows).index_select(1, layer.head_index).to(at::kFloat);
    const at::Tensor k = input.k.index_select(1, heads_group).to(at::kFloat);
    exact = at::matmul(q.transpose(0, 1), k.permute({1, 2, 0})).mul_(input.scale);  // [R, n, S]
    const at::Tensor lse_far = exact.masked_fill(not_far, kMinusInfinity).logsumexp(-1);
    lse_local = exact.masked_fill(not_far.logical_not().logical_or(future), kMinusInfinity).logsumexp(-1);
    far_mass = (lse_far - lse_local).sigmoid();
  }
  const at::AutoGradMode grad_mode(scale_ != 0);
  const at::Tensor q_pre_rope = input.q_pre_rope.index_select(0, rows);
  const at::Tensor scores = layer.scores(layer.queries(q_pre_rope), layer.keys(input.k_pre_rope));
  const at::Tensor& hidden = target_ == IndexTarget::kFar ? not_far : future;
  const at::Tensor log_true = masked_log_softmax(exact, hidden);
  const at::Tensor true_share = log_true.exp().masked_fill(hidden, 0);
  const at::Tensor kl = (true_share * (log_true - masked_log_softmax(scores, hidden))).sum(-1);  // [R, n]
  const at::Tensor weight = target_ == IndexTarget::kFar ? far_mass : at::ones_like(far_mass);
  const at::Tensor lse_index = scores.detach().masked_fill(not_far, kMinusInfinity).logsumexp(-1);
  const at::Tensor gate_loss = at::binary_cross_entropy_with_logits(lse_index + layer.gate(q_pre_rope) - lse_local,
                                                                    far_mass, {}, {}, at::Reduction::None);
  if (scale_ != 0) {
    ((weight * kl).sum() + gate_loss.sum()).mul(scale_ / static_cast<double>(rows_.size())).backward();
  }
  IndexStatistics& sums = statistics_[static_cast<size_t>(input.layer)];
  add(sums.weighted_kl, weight * kl);
  add(sums.kl, kl);
  add(sums.weight, weight);
  add(sums.gate_loss, gate_loss);
}

std::vector<int64_t> sample_rows(int64_t first, int64_t end, int64_t count, uint64_t seed) {
  std::vector<int64_t> positions(static_cast<size_t>(std::max<int64_t>(end - first, 0)));
  std::iota(positions.begin(), positions.end(), first);
  std::vector<int64_t> rows;
  std::mt19937_64 random(seed);
  std::ranges::sample(positions, std::back_inserter(rows), count, random);
  return rows;
}

}  // namespace retrosparse
