#include "sparse/trainable_attention.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <limits>
#include <stdexcept>

#include "model/attend.h"

namespace retrosparse {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

}  // namespace

TrainableSparseAttention::TrainableSparseAttention(const SparseModel& model, int64_t sparse_from)
    : model_(model),
      planned_(
          model.plan.windows(), model.plan.num_key_value_heads,
          model.indexer.projections().empty() ? at::Device(at::kCPU) : model.indexer.projections().front().device()),
      sparse_from_(sparse_from) {
  if (sparse_from < model.plan.local.window + model.plan.local.sink_tokens) {
    throw std::logic_error("sparse rows without far keys");
  }
}

at::Tensor TrainableSparseAttention::forward(const AttentionInput& input) {
  const int64_t num_tokens = input.q.size(0);
  if (sparse_from_ >= num_tokens) {
    return planned_.forward(input);
  }
  return at::cat({planned_.forward(input.rows(0, sparse_from_)),
                  sparse_rows(input.rows(sparse_from_, num_tokens - sparse_from_), input.k_pre_rope)});
}

// bool [R, n, S]: sinks, window and what the index picks.
at::Tensor TrainableSparseAttention::visible_keys(const AttentionInput& rows, const at::Tensor& index_keys,
                                                  const at::Tensor& lse_local) const {
  const LayerIndexer& layer = model_.indexer.layers[static_cast<size_t>(rows.layer)];
  const LocalWindow local = model_.plan.local;
  const int64_t num_keys = rows.k.size(0);
  const at::Tensor key = at::arange(num_keys, layer.head_index.options()).unsqueeze(0);
  const at::Tensor query = at::arange(rows.first_position, num_keys, layer.head_index.options()).unsqueeze(1);
  const at::Tensor future = key.gt(query);
  SelectionInput selection;
  selection.far = key.ge(local.sink_tokens).logical_and(key.le(query - local.window));
  selection.scores =
      layer.scores(layer.queries(rows.q_pre_rope), index_keys).masked_fill(future.unsqueeze(0), kMinusInfinity);
  selection.lse_local = lse_local;
  selection.gate = layer.gate(rows.q_pre_rope);
  const PickedTokens picked =
      select_tokens(selection, model_.selection.rule, model_.selection.gates[static_cast<size_t>(rows.layer)]);
  const at::Tensor meant =
      at::arange(picked.positions.size(-1), picked.counts.options()).lt(picked.counts.unsqueeze(-1));
  // What is not meant points at position 0; adding up keeps it from erasing a pick there.
  const at::Tensor hits = at::zeros(selection.scores.sizes(), selection.scores.options())
                              .scatter_add_(-1, picked.positions, meant.to(selection.scores.scalar_type()));
  const at::Tensor near = selection.far.logical_or(future).logical_not();
  return hits.gt(0).logical_or_(near.unsqueeze(0));
}

at::Tensor TrainableSparseAttention::sparse_rows(const AttentionInput& rows, const at::Tensor& k_pre_rope) const {
  const LayerIndexer& layer = model_.indexer.layers[static_cast<size_t>(rows.layer)];
  const PartialAttention near = attend_local(rows.q, rows.k, rows.v, rows.scale, model_.plan.local);
  if (layer.heads.empty()) {
    return near.out;
  }
  at::Tensor hidden;  // [R, n, S]
  {
    const at::NoGradGuard no_grad;
    hidden = visible_keys(rows, layer.keys(k_pre_rope), near.lse.index_select(1, layer.head_index).transpose(0, 1))
                 .logical_not_();
  }
  std::vector<at::Tensor> outs;
  const int64_t group_size = model_.plan.num_attention_heads / model_.plan.num_key_value_heads;
  for (size_t place = 0; place < layer.heads.size(); ++place) {
    const int64_t head = layer.heads[place], group = head / group_size;
    const at::Tensor bias = at::zeros(hidden.sizes().slice(1), rows.q.options().requires_grad(false))
                                .masked_fill_(hidden[static_cast<int64_t>(place)], kMinusInfinity);
    outs.push_back(
        attend(rows.q.narrow(1, head, 1), rows.k.narrow(1, group, 1), rows.v.narrow(1, group, 1), rows.scale, bias)
            .out);
  }
  return near.out.index_copy(1, layer.head_index, at::cat(outs, 1));
}

}  // namespace retrosparse
