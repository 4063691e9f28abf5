#include "sparse/trainable_attention.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "base/numeric.h"
#include "model/attend.h"
#include "sparse/far_scores.h"

namespace retrosparse {
namespace {}  // namespace

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
  const int64_t num_rows = rows.q.size(0), num_keys = rows.k.size(0), tail_block = model_.selection.tail_block;
  const at::Tensor index_keys = layer.keys(k_pre_rope);
  Choice choice{at::ones({layer.num_heads(), num_rows, num_keys}, rows.q.options().dtype(at::kBool)), {}};
  if (tail_block > 0) {
    const int64_t num_blocks = (num_keys - model_.plan.local.sink_tokens) / tail_block;
    choice.tail.of_blocks = at::zeros({layer.num_heads(), num_rows, num_blocks}, lse_local.options());
    choice.tail.lse = at::empty(lse_local.sizes(), lse_local.options());
  }
  const int64_t at_a_time = rows_at_a_time(rows.q, layer.num_heads(), num_keys);
  for (int64_t row = 0; row < num_rows; row += at_a_time) {
    const int64_t count = std::min(at_a_time, num_rows - row);
    const AttentionInput some = rows.rows(row, count);
    const int64_t keys_seen = some.k.size(0);
    const Choice part = choose_block(some, index_keys.narrow(1, 0, keys_seen), lse_local.narrow(1, row, count));
    choice.hidden.narrow(1, row, count).narrow(2, 0, keys_seen).copy_(part.hidden);
    if (tail_block > 0) {
      choice.tail.of_blocks.narrow(1, row, count).narrow(2, 0, part.tail.of_blocks.size(2)).copy_(part.tail.of_blocks);
      choice.tail.lse.narrow(1, row, count).copy_(part.tail.lse);
    }
  }
  return choice;
}

TrainableSparseAttention::Choice TrainableSparseAttention::choose_block(const AttentionInput& rows,
                                                                        const at::Tensor& index_keys,
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
      layer.scores(layer.queries(rows.q_pre_rope), index_keys).masked_fill_(future.unsqueeze(0), kMinusInfinity);
  selection.lse_local = lse_local;
  selection.gate = layer.gate(rows.q_pre_rope);
  const PickedTokens picked =
      select_tokens(selection, model_.selection.rule, model_.selection.gates[static_cast<size_t>(rows.layer)]);
  const at::Tensor near = selection.far.logical_or(future).logical_not_();
  Choice choice{picked_keys(picked, num_keys).logical_or_(near.unsqueeze(0)).logical_not_(), {}};
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
