#include "sparse/tail_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "base/numeric.h"

namespace retrosparse {
namespace {}  // namespace

void ValueMeans::truncate(int64_t length) {
  num_blocks_ = std::min(num_blocks_, std::max<int64_t>(0, length - sink_tokens_) / block_);
}

at::Tensor ValueMeans::update(const at::Tensor& v, const at::Tensor& groups) {
  const int64_t num_blocks = std::max<int64_t>(0, v.size(0) - sink_tokens_) / block_;
  const auto options = v.options().dtype(at::kFloat);
  if (!means_.defined() || means_.size(1) < num_blocks) {
    at::Tensor grown =
        at::empty({groups.size(0), std::max<int64_t>({num_blocks, 2 * num_blocks_, 1}), v.size(2)}, options);
    if (num_blocks_ > 0) {
      grown.narrow(1, 0, num_blocks_).copy_(means_.narrow(1, 0, num_blocks_));
    }
    means_ = grown;
  }
  if (num_blocks > num_blocks_) {
    const int64_t fresh = num_blocks - num_blocks_;
    const at::Tensor values = v.narrow(0, sink_tokens_ + num_blocks_ * block_, fresh * block_).index_select(1, groups);
    means_.narrow(1, num_blocks_, fresh)
        .copy_(values.to(at::kFloat).view({fresh, block_, groups.size(0), v.size(2)}).mean(1).transpose(0, 1));
    num_blocks_ = num_blocks;
  }
  return means_.narrow(1, 0, num_blocks);
}

at::Tensor picked_keys(const PickedTokens& picked, int64_t num_keys) {
  const at::Tensor meant =
      at::arange(picked.positions.size(2), picked.counts.options()).lt(picked.counts.unsqueeze(-1));
  // What is not meant goes into a column of its own.
  at::Tensor hits =
      at::zeros({picked.counts.size(0), picked.counts.size(1), num_keys + 1}, picked.counts.options().dtype(at::kBool));
  hits.scatter_(2, at::where(meant, picked.positions, num_keys), true);
  return hits.narrow(2, 0, num_keys);
}

TailShares tail_shares(const at::Tensor& unpicked_scores, const at::Tensor& gate, int64_t num_blocks,
                       int64_t sink_tokens, int64_t block) {
  const int64_t num_heads = unpicked_scores.size(0), num_rows = unpicked_scores.size(1);
  const int64_t num_keys = unpicked_scores.size(2);
  const at::Tensor lse = at::logsumexp(unpicked_scores, at::IntArrayRef{-1});
  const at::Tensor nothing = lse.eq(kMinusInfinity);
  const at::Tensor shares = at::exp(unpicked_scores - lse.masked_fill(nothing, 0).unsqueeze(-1));
  // Blocks from the first far key on, the last one filled up with nothing.
  const int64_t num_far = std::min(num_keys - sink_tokens, num_blocks * block);
  const at::Tensor padded =
      at::constant_pad_nd(shares.narrow(2, sink_tokens, num_far), {0, num_blocks * block - num_far});
  return {padded.view({num_heads, num_rows, num_blocks, block}).sum(-1), lse + gate};
}

TailShares tail_shares(const SelectionInput& input, const PickedTokens& picked, int64_t num_blocks, int64_t sink_tokens,
                       int64_t block) {
  const at::Tensor left = input.far.unsqueeze(0).logical_and(picked_keys(picked, input.scores.size(2)).logical_not());
  return tail_shares(input.scores.masked_fill(left.logical_not(), kMinusInfinity), input.gate, num_blocks, sink_tokens,
                     block);
}

PartialAttention attend_tail(const TailShares& shares, const at::Tensor& means, const at::Tensor& group_of_head) {
  const at::Tensor out = at::bmm(shares.of_blocks, means.index_select(0, group_of_head));
  return {out.transpose(0, 1), shares.lse.transpose(0, 1)};
}

PartialAttention attend_tail(const LayerIndexer& layer, const TailInput& input, LocalWindow local,
                             const std::function<at::Tensor(const RowBlock&)>& attended) {
  const int64_t num_heads = input.index_queries.size(0), num_queries = input.index_queries.size(1);
  const at::TensorOptions floats = input.index_queries.options();
  PartialAttention tail{at::zeros({num_queries, num_heads, input.means.size(2)}, floats),
                        at::full({num_queries, num_heads}, kMinusInfinity, floats)};
  for_each_row_block(layer, input.index_queries, input.index_keys, local, [&](const RowBlock& rows) {
    const int64_t num_blocks = (rows.scores.size(-1) - local.sink_tokens + input.block - 1) / input.block;
    const TailShares shares = tail_shares(rows.scores.masked_fill(attended(rows), kMinusInfinity),
                                          input.gate.narrow(1, rows.first_query, rows.num_queries), num_blocks,
                                          local.sink_tokens, input.block);
    const PartialAttention part = attend_tail(shares, input.means.narrow(1, 0, num_blocks), layer.group_of_head);
    tail.out.narrow(0, rows.first_query, rows.num_queries).copy_(part.out);
    tail.lse.narrow(0, rows.first_query, rows.num_queries).copy_(part.lse);
  });
  return tail;
}

}  // namespace retrosparse
