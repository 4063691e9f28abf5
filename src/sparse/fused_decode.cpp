#include "sparse/fused_decode.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>

#include <algorithm>

#include "sparse/attention_plan.h"

namespace retrosparse {
namespace {

constexpr int64_t kTokensPerLaunch = 8;  ///< what the kernels take as query tokens

at::Tensor one_batch(const at::Tensor& tensor) {
  return tensor.unsqueeze(0);
}

ops::DecodeInput decode_input(const AttentionInput& rows) {
  const int64_t num_keys = rows.k.size(0);
  return {one_batch(rows.q),
          one_batch(rows.k),
          one_batch(rows.v),
          at::full({1}, num_keys, rows.q.options().dtype(at::kInt)),
          {},
          rows.scale,
          num_keys};
}

TailInput rows_of(const TailInput& tail, int64_t row, int64_t count, int64_t num_keys) {
  TailInput rows = tail;
  rows.index_queries = tail.index_queries.narrow(1, row, count);
  rows.index_keys = tail.index_keys.narrow(1, 0, num_keys);
  rows.gate = tail.gate.narrow(1, row, count);
  return rows;
}

// [n, H, D]: what was decoded, and in the retrieval heads what the index says of the keys that were not picked.
at::Tensor with_tail(const ops::SparseDecodeOutput& decoded, const LayerIndexer& layer, const TailInput& input,
                     LocalWindow local) {
  const ops::DecodeOutput& attention = decoded.attention;
  const at::Tensor out = attention.o.squeeze(0);
  const PartialAttention exact{out.to(at::kFloat).index_select(1, layer.head_index),
                               attention.lse.squeeze(0).index_select(1, layer.head_index)};
  const PickedTokens picked{decoded.selected.positions.squeeze(0).transpose(0, 1).to(at::kLong),
                            decoded.selected.counts.squeeze(0).t().to(at::kLong)};
  const PartialAttention tail = attend_tail(layer, input, local, [&](const RowBlock& rows) {
    return picked_keys({picked.positions.narrow(1, rows.first_query, rows.num_queries),
                        picked.counts.narrow(1, rows.first_query, rows.num_queries)},
                       rows.scores.size(-1));
  });
  return out.index_copy(1, layer.head_index, merge(exact, tail).out.to(out.scalar_type()));
}

}  // namespace

std::vector<kernels::SelectionRule> kernel_rules(SelectionRule rule, const std::vector<GateSettings>& gates) {
  std::vector<kernels::SelectionRule> rules;
  for (const GateSettings& gate : gates) {
    if (rule == SelectionRule::kPaper || gate.max_tokens > kernels::kMaxSelectedTokens) {
      return {};
    }
    const auto cap = static_cast<int32_t>(gate.max_tokens);
    const bool fixed = rule == SelectionRule::kTopK;
    rules.push_back({static_cast<float>(gate.p), fixed ? cap : static_cast<int32_t>(gate.min_tokens), cap});
  }
  return rules;
}

bool serves_decode(const AttentionInput& input, const LayerIndexer& layer) {
  return ops::serves_decode(input.q) && (layer.heads.empty() || layer.q_proj.size(1) == kernels::kIndexDim);
}

DecodedRows attend_by_index(const AttentionInput& input, const LayerIndexer& layer, const at::Tensor& index_keys,
                            LocalWindow local, const std::vector<kernels::SelectionRule>& rules, const TailInput& tail,
                            ops::DecodeWorkspace& workspace) {
  const ops::AttentionPlan plan = attention_plan(input.q.size(1), layer, local);
  const int64_t num_rows = input.q.size(0);
  at::Tensor queries, gates;  // token-major, as the kernels want them
  if (!layer.heads.empty()) {
    queries = layer.queries(input.q_pre_rope).transpose(0, 1).contiguous();
    gates = layer.gate(input.q_pre_rope).transpose(0, 1).contiguous();
  }
  std::vector<at::Tensor> outs;
  at::Tensor far_tokens = at::full({layer.num_heads()}, 0, input.q.options().dtype(at::kLong));
  for (int64_t row = 0; row < num_rows; row += kTokensPerLaunch) {
    const int64_t count = std::min(kTokensPerLaunch, num_rows - row);
    const ops::DecodeInput rows = decode_input(input.rows(row, count));
    if (layer.heads.empty()) {
      outs.push_back(ops::decode_attention(rows, plan, nullptr, workspace).o.squeeze(0));
      continue;
    }
    const ops::DecodeSelectionInput selection{one_batch(queries.narrow(0, row, count)),
                                              one_batch(gates.narrow(0, row, count)),
                                              one_batch(index_keys.narrow(1, 0, rows.max_keys)), rules};
    const ops::SparseDecodeOutput output = ops::sparse_decode(rows, selection, plan, workspace);
    outs.push_back(tail.block == 0 ? output.attention.o.squeeze(0)
                                   : with_tail(output, layer, rows_of(tail, row, count, rows.max_keys), local));
    far_tokens += output.selected.counts.sum(at::IntArrayRef{0, 1}, /*keepdim=*/false, at::kLong);
  }
  return {outs.size() == 1 ? outs.front() : at::cat(outs), far_tokens};
}

}  // namespace retrosparse
