#include "sparse/sparse_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <stdexcept>

#include "base/numeric.h"
#include "sparse/fused_decode.h"
#include "sparse/fused_tiles.h"
#include "sparse/tile_attention.h"

namespace retrosparse {
namespace {

// The scaled scores of the retrieval heads' queries with all keys: float32 [R, n, S].
at::Tensor exact_scores(const AttentionInput& input, const LayerIndexer& layer) {
  const at::Tensor queries = input.q.index_select(1, layer.head_index).transpose(0, 1).to(at::kFloat);
  const at::Tensor keys = input.k.index_select(1, layer.key_heads()).permute({1, 2, 0}).to(at::kFloat);
  return at::bmm(queries * input.scale, keys);
}

// Far keys of the rows [first_position, first_position + num_rows), all rows together.
int64_t far_keys(int64_t first_position, int64_t num_rows, LocalWindow local) {
  int64_t sum = 0;
  for (int64_t row = first_position; row < first_position + num_rows; ++row) {
    sum += std::max<int64_t>(0, row + 1 - local.window - local.sink_tokens);
  }
  return sum;
}

}  // namespace

SelectionSettings SelectionSettings::uniform(const HeadPlan& plan, SelectionRule rule, const GateSettings& gate) {
  SelectionSettings settings{.rule = rule};
  for (const std::vector<int64_t>& heads : plan.retrieval_heads) {
    settings.gates.emplace_back(heads.size(), gate);
  }
  return settings;
}

SelectionCounts total(const HeadCounts& counts) {
  SelectionCounts sum;
  for (const std::vector<SelectionCounts>& layer : counts) {
    for (const SelectionCounts& head : layer) {
      sum.add(head);
    }
  }
  return sum;
}

void add(HeadCounts& sum, const HeadCounts& counts) {
  sum.resize(counts.size());
  for (size_t layer = 0; layer < counts.size(); ++layer) {
    sum[layer].resize(counts[layer].size());
    for (size_t place = 0; place < counts[layer].size(); ++place) {
      sum[layer][place].add(counts[layer][place]);
    }
  }
}

SparseAttention::SparseAttention(const SparseModel& model)
    : model_(model),
      selection_(model.selection),
      prefill_(model.prefill),
      dense_prefill_(
          model.plan.windows(), model.plan.num_key_value_heads,
          model.indexer.projections().empty() ? at::Device(at::kCPU) : model.indexer.projections().front().device()),
      index_(model.indexer.layers.size()) {
  reset_counts();
}

void SparseAttention::reset_counts() {
  counts_.assign(model_.indexer.layers.size(), {});
  tile_counts_ = {};
}

HeadCounts SparseAttention::counts() const {
  HeadCounts all;
  for (size_t index = 0; index < counts_.size(); ++index) {
    const LayerCounts& layer = counts_[index];
    std::vector<SelectionCounts>& heads = all.emplace_back(model_.indexer.layers[index].heads.size(),
                                                           SelectionCounts{layer.rows, 0, layer.far_available});
    if (layer.far_tokens.defined()) {
      const at::Tensor far_tokens = layer.far_tokens.cpu();
      for (size_t place = 0; place < heads.size(); ++place) {
        heads[place].far_tokens = far_tokens.const_data_ptr<int64_t>()[place];
      }
    }
  }
  return all;
}

at::Tensor SparseAttention::append_index_keys(const AttentionInput& input) {
  const LayerIndexer& layer = model_.indexer.layers[static_cast<size_t>(input.layer)];
  IndexKeys& cache = index_[static_cast<size_t>(input.layer)];
  cache.length = input.first_position;  // also forgets what was decoded beyond a truncated KV cache
  cache.packed_length = std::min(cache.packed_length, cache.length);
  if (!tails_.empty()) {
    tails_[static_cast<size_t>(input.layer)].truncate(cache.length);
  }
  const at::Tensor fresh = layer.keys(input.k_pre_rope);
  const int64_t new_length = cache.length + fresh.size(1);
  if (!cache.keys.defined() || cache.keys.size(1) < new_length) {
    at::Tensor grown =
        at::empty({fresh.size(0), std::max(new_length, 2 * cache.length), fresh.size(2)}, fresh.options());
    if (cache.length > 0) {
      grown.narrow(1, 0, cache.length).copy_(cache.keys.narrow(1, 0, cache.length));
    }
    cache.keys = grown;
  }
  cache.keys.narrow(1, cache.length, fresh.size(1)).copy_(fresh);
  cache.length = new_length;
  return cache.keys.narrow(1, 0, new_length);
}

TailInput SparseAttention::index_input(const AttentionInput& input, const at::Tensor& index_keys) {
  const LayerIndexer& layer = model_.indexer.layers[static_cast<size_t>(input.layer)];
  const at::Tensor means =
      selection_.tail_block > 0 ? tail_of(input.layer).update(input.v, layer.group_index) : at::Tensor();
  return {layer.queries(input.q_pre_rope), index_keys, layer.gate(input.q_pre_rope), means, selection_.tail_block};
}

ValueMeans& SparseAttention::tail_of(int64_t layer) {
  if (tails_.empty() || tail_block_ != selection_.tail_block) {
    tail_block_ = selection_.tail_block;
    tails_.assign(index_.size(), ValueMeans(model_.plan.local.sink_tokens, tail_block_));
  }
  return tails_[static_cast<size_t>(layer)];
}

at::Tensor SparseAttention::packed_index_keys(int64_t layer) {
  IndexKeys& cache = index_[static_cast<size_t>(layer)];
  if (!cache.packed.defined() || cache.packed.size(1) < cache.length) {
    cache.packed = at::empty(cache.keys.sizes(), cache.keys.options().dtype(at::kBFloat16));
    cache.packed_length = 0;
  }
  const int64_t fresh = cache.length - cache.packed_length;
  cache.packed.narrow(1, cache.packed_length, fresh).copy_(cache.keys.narrow(1, cache.packed_length, fresh));
  cache.packed_length = cache.length;
  return cache.packed.narrow(1, 0, cache.length);
}

PartialAttention SparseAttention::attend_selected_tiles(const AttentionInput& input, const at::Tensor& index_keys,
                                                        const at::Tensor& lse_local) {
  const LayerIndexer& layer = model_.indexer.layers[static_cast<size_t>(input.layer)];
  const LocalWindow local = model_.plan.local;
  const TailInput index = index_input(input, index_keys);
  const SelectedTiles tiles = select_tiles(layer, {index.index_queries, index_keys, lse_local, index.gate}, local,
                                           prefill_.shares_of(static_cast<size_t>(input.layer), layer.heads.size()));
  tile_counts_.add(tiles.counts);
  const PartialAttention exact = attend_tiles(input.q.index_select(1, layer.head_index), input.k, input.v, input.scale,
                                              layer.key_heads(), tiles, local);
  return index.block == 0 ? exact : merge(exact, attend_tail(layer, index, local, [&](const RowBlock& rows) {
                                            return computed_keys(tiles, rows);
                                          }));
}

PartialAttention SparseAttention::attend_picked_tokens(const AttentionInput& input, const at::Tensor& index_keys,
                                                       const at::Tensor& lse_local) {
  const int64_t num_rows = input.q.size(0);
  const int64_t block = rows_at_a_time(input.q, lse_local.size(0), input.k.size(0));
  std::vector<at::Tensor> outs, lses;
  for (int64_t row = 0; row < num_rows; row += block) {
    const int64_t count = std::min(block, num_rows - row);
    const AttentionInput rows = input.rows(row, count);
    const PartialAttention part =
        attend_picked_block(rows, index_keys.narrow(1, 0, rows.k.size(0)), lse_local.narrow(1, row, count));
    outs.push_back(part.out);
    lses.push_back(part.lse);
  }
  return {at::cat(outs), at::cat(lses)};
}

PartialAttention SparseAttention::attend_picked_block(const AttentionInput& input, const at::Tensor& index_keys,
                                                      const at::Tensor& lse_local) {
  const LayerIndexer& layer = model_.indexer.layers[static_cast<size_t>(input.layer)];
  const LocalWindow local = model_.plan.local;
  const int64_t num_keys = input.k.size(0);
  const at::Tensor key = at::arange(num_keys, layer.head_index.options()).unsqueeze(0);
  const at::Tensor query = at::arange(input.first_position, num_keys, layer.head_index.options()).unsqueeze(1);
  SelectionInput selection;
  selection.far = key.ge(local.sink_tokens).logical_and(key.le(query - local.window));
  selection.scores = selection_.by_exact_scores ? exact_scores(input, layer)
                                                : layer.scores(layer.queries(input.q_pre_rope), index_keys);
  selection.scores.masked_fill_(key.gt(query).unsqueeze(0), kMinusInfinity);
  selection.lse_local = lse_local;
  selection.gate = layer.gate(input.q_pre_rope);
  const PickedTokens picked =
      select_tokens(selection, selection_.rule, selection_.gates[static_cast<size_t>(input.layer)]);
  if (observe_picks_) {
    observe_picks_(input.layer, input.first_position, picked);
  }
  count(input, picked.counts.sum(1));
  const PartialAttention exact = attend_picked(input.q.index_select(1, layer.head_index), input.k, input.v, input.scale,
                                               layer.key_heads(), picked);
  if (selection_.tail_block == 0) {
    return exact;
  }
  if (selection_.by_exact_scores) {
    throw std::logic_error("a tail by the index beside tokens that were picked by exact scores");
  }
  const at::Tensor means = tail_of(input.layer).update(input.v, layer.group_index);
  const TailShares shares = tail_shares(selection, picked, means.size(1), local.sink_tokens, selection_.tail_block);
  return merge(exact, attend_tail(shares, means, layer.group_of_head));
}

void SparseAttention::count(const AttentionInput& input, const at::Tensor& far_tokens) {
  LayerCounts& counts = counts_[static_cast<size_t>(input.layer)];
  counts.rows += input.q.size(0);
  counts.far_available += far_keys(input.first_position, input.q.size(0), model_.plan.local);
  counts.far_tokens = counts.far_tokens.defined() ? counts.far_tokens + far_tokens : far_tokens;
}

at::Tensor SparseAttention::attend_near_and(FarAttention far, const AttentionInput& input,
                                            const at::Tensor& index_keys) {
  const LayerIndexer& layer = model_.indexer.layers[static_cast<size_t>(input.layer)];
  const LocalWindow local = model_.plan.local;
  const PartialAttention near = attend_local(input.q, input.k, input.v, input.scale, local);
  if (layer.heads.empty() || input.k.size(0) <= local.window + local.sink_tokens) {
    return near.out;
  }
  const PartialAttention near_of_heads{near.out.index_select(1, layer.head_index),
                                       near.lse.index_select(1, layer.head_index)};
  const PartialAttention far_of_heads = (this->*far)(input, index_keys, near_of_heads.lse.transpose(0, 1));
  return near.out.index_copy(1, layer.head_index, merge(near_of_heads, far_of_heads).out);
}

at::Tensor SparseAttention::attend_sparse_rows(const AttentionInput& input, const at::Tensor& index_keys) {
  const auto place = static_cast<size_t>(input.layer);
  const LayerIndexer& layer = model_.indexer.layers[place];
  const std::vector<kernels::SelectionRule> rules = kernel_rules(selection_.rule, selection_.gates[place]);
  if (observe_picks_ || selection_.by_exact_scores || rules.size() != layer.heads.size() ||
      !serves_decode(input, layer)) {
    return attend_near_and(&SparseAttention::attend_picked_tokens, input, index_keys);
  }
  const at::Tensor packed = layer.heads.empty() ? at::Tensor() : packed_index_keys(input.layer);
  const bool with_tail = selection_.tail_block > 0 && !layer.heads.empty() &&
                         far_keys(input.first_position, input.q.size(0), model_.plan.local) > 0;
  const TailInput tail = with_tail ? index_input(input, index_keys) : TailInput{};
  const DecodedRows rows = attend_by_index(input, layer, packed, model_.plan.local, rules, tail, workspace_);
  if (far_keys(input.first_position, input.q.size(0), model_.plan.local) > 0) {
    count(input, rows.far_tokens);
  }
  return rows.out;
}

at::Tensor SparseAttention::forward(const AttentionInput& input) {
  const LayerIndexer& layer = model_.indexer.layers[static_cast<size_t>(input.layer)];
  const at::Tensor index_keys = layer.heads.empty() ? at::Tensor() : append_index_keys(input);
  const auto keys_of = [&](const AttentionInput& rows) {
    return layer.heads.empty() ? at::Tensor() : index_keys.narrow(1, 0, rows.k.size(0));
  };
  const int64_t num_new = input.q.size(0);
  const int64_t sparse_row = std::clamp<int64_t>(sparse_from_ - input.first_position, 0, num_new);
  std::vector<at::Tensor> outs;
  if (sparse_row > 0) {
    const AttentionInput rows = input.rows(0, sparse_row);
    outs.push_back(prefill_.mode == PrefillMode::kDense ? dense_prefill_.forward(rows)
                   : serves_tiles(rows, layer)
                       ? attend_by_tiles(rows, layer, index_input(rows, keys_of(rows)), model_.plan.local,
                                         prefill_.shares_of(static_cast<size_t>(input.layer), layer.heads.size()),
                                         tile_counts_)
                       : attend_near_and(&SparseAttention::attend_selected_tiles, rows, keys_of(rows)));
  }
  if (sparse_row < num_new) {
    const AttentionInput rows = input.rows(sparse_row, num_new - sparse_row);
    outs.push_back(attend_sparse_rows(rows, index_keys));
  }
  return outs.size() == 1 ? outs.front() : at::cat(outs);
}

}  // namespace retrosparse
