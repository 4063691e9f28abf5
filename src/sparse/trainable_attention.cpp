#include "sparse/trainable_attention.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
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

TrainableSparseAttention::Choice TrainableSparseAttention::choose(const AttentionInput& rows,
                                                                  const at::Tensor& k_pre_rope,
                                                                  const at::Tensor& lse_local) const {
  const at::NoGradGuard no_grad;
  const LayerIndexer& layer = model_.indexer.layers[static_cast<size_t>(rows.layer)];
  const LocalWindow local = model_.plan.local;
  const int64_t num_keys = rows.k.size(0);
  const at::Tensor key = at::arange(num_keys, layer.head_index.options()).unsqueeze(0);
  const at::Tensor query = at::arange(rows.first_position, num_keys, layer.head_index.options()).unsqueeze(1);
  const at::Tensor future = key.gt(query);
  SelectionInput selection;
  selection.far = key.ge(local.sink_tokens).logical_and(key.le(query - local.window));
  selection.scores = layer.scores(layer.queries(rows.q_pre_rope), layer.keys(k_pre_rope))
                         .masked_fill(future.unsqueeze(0), kMinusInfinity);
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
  Choice choice{hits.gt(0).logical_or_(near.unsqueeze(0)).logical_not_(), {}};
  if (const int64_t block = model_.selection.tail_block; block > 0) {
    choice.tail = tail_shares(selection, picked, (num_keys - local.sink_tokens) / block, local.sink_tokens, block);
  }
  return choice;
}

// [n, 1, D] of one head: the tail is one more key, with a score and a value of its own for each row.
at::Tensor TrainableSparseAttention::attend_with_tail(const AttentionInput& rows, const Choice& choice,
                                                      size_t place) const {
  const LayerIndexer& layer = model_.indexer.layers[static_cast<size_t>(rows.layer)];
  const int64_t head = layer.heads[place], index = static_cast<int64_t>(place);
  const int64_t group = head / (model_.plan.num_attention_heads / model_.plan.num_key_value_heads);
  const int64_t block = model_.selection.tail_block, num_keys = rows.k.size(0);
  const at::Tensor q = rows.q.select(1, head), k = rows.k.select(1, group), v = rows.v.select(1, group).to(at::kFloat);
  const at::Tensor scores = at::matmul(q, k.t()).to(at::kFloat) * rows.scale;
  const at::Tensor shares = at::softmax(
      at::cat({scores.masked_fill(choice.hidden[index], kMinusInfinity), choice.tail.lse[index].unsqueeze(1)}, 1), -1);
  const at::Tensor means = v.narrow(0, model_.plan.local.sink_tokens, choice.tail.of_blocks.size(2) * block)
                               .view({-1, block, v.size(1)})
                               .mean(1);
  const at::Tensor tail = at::matmul(choice.tail.of_blocks[index], means);
  const at::Tensor out = at::matmul(shares.narrow(1, 0, num_keys), v) + shares.narrow(1, num_keys, 1) * tail;
  return out.to(rows.q.scalar_type()).unsqueeze(1);
}

at::Tensor TrainableSparseAttention::sparse_rows(const AttentionInput& rows, const at::Tensor& k_pre_rope) const {
  const LayerIndexer& layer = model_.indexer.layers[static_cast<size_t>(rows.layer)];
  const PartialAttention near = attend_local(rows.q, rows.k, rows.v, rows.scale, model_.plan.local);
  if (layer.heads.empty()) {
    return near.out;
  }
  const Choice choice = choose(rows, k_pre_rope, near.lse.index_select(1, layer.head_index).transpose(0, 1));
  std::vector<at::Tensor> outs;
  const int64_t group_size = model_.plan.num_attention_heads / model_.plan.num_key_value_heads;
  for (size_t place = 0; place < layer.heads.size(); ++place) {
    if (model_.selection.tail_block > 0) {
      outs.push_back(attend_with_tail(rows, choice, place));
      continue;
    }
    const int64_t head = layer.heads[place], group = head / group_size;
    const at::Tensor hidden = choice.hidden[static_cast<int64_t>(place)];
    const at::Tensor bias =
        at::zeros(hidden.sizes(), rows.q.options().requires_grad(false)).masked_fill_(hidden, kMinusInfinity);
    outs.push_back(
        attend(rows.q.narrow(1, head, 1), rows.k.narrow(1, group, 1), rows.v.narrow(1, group, 1), rows.scale, bias)
            .out);
  }
  return near.out.index_copy(1, layer.head_index, at::cat(outs, 1));
}

}  // namespace retrosparse
