#include "ops/decode_params.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "ops/binding.h"

namespace retrosparse::ops {
namespace {

int64_t count_groups(const std::vector<int32_t>& heads, int64_t heads_per_group) {
  int64_t groups = 0;
  for (size_t i = 0; i < heads.size(); ++i) {
    groups += i == 0 || heads[i] / heads_per_group != heads[i - 1] / heads_per_group ? 1 : 0;
  }
  return groups;
}

}  // namespace

void check_selection(const DecodeSelectionInput& selection, const DecodeInput& input, const AttentionPlan& plan,
                     std::string_view operation) {
  const std::vector<int32_t> heads = plan.selected_heads();
  const at::Tensor& q = input.q;
  const auto selected = static_cast<int64_t>(heads.size());
  require_tensor(selection.queries, at::kFloat, {q.size(0), q.size(1), selected, kernels::kIndexDim}, q.device(),
                 operation, "queries");
  require_tensor(selection.gates, at::kFloat, {q.size(0), q.size(1), selected}, q.device(), operation, "gates");
  require_tensor(
      selection.keys, at::kBFloat16,
      {input.k.size(0), count_groups(heads, q.size(2) / input.k.size(2)), input.k.size(1), kernels::kIndexDim},
      q.device(), operation, "keys");
  if (selection.keys.stride(3) != 1 || selection.keys.stride(2) != kernels::kIndexDim) {
    reject(operation, "keys", "tokens side by side",
           fmt::format("strides {} and {}", selection.keys.stride(2), selection.keys.stride(3)));
  }
  if (selection.rules.size() != heads.size()) {
    reject(operation, "rules", fmt::format("{} of them", heads.size()), fmt::format("{}", selection.rules.size()));
  }
  for (const kernels::SelectionRule& rule : selection.rules) {
    if (!(rule.p >= 0 && rule.p <= 1) || rule.min_tokens < 0 || rule.max_tokens < rule.min_tokens ||
        rule.max_tokens > kernels::kMaxSelectedTokens) {
      reject(operation, "rules",
             fmt::format("p in [0, 1] and 0 <= min_tokens <= max_tokens <= {}", kernels::kMaxSelectedTokens),
             fmt::format("{}, {}, {}", rule.p, rule.min_tokens, rule.max_tokens));
    }
  }
}

DecodeSelectionInput contiguous(const DecodeSelectionInput& selection) {
  DecodeSelectionInput result = selection;
  result.queries = selection.queries.contiguous();
  result.gates = selection.gates.contiguous();
  return result;
}

DecodeOutput empty_output(const DecodeInput& input) {
  const at::Tensor& q = input.q;
  return {at::empty_like(q), at::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(at::kFloat))};
}

kernels::DecodeAttentionParams attention_params(const DecodeInput& input, const AttentionPlan& plan,
                                                const DecodeOutput& output) {
  const at::Tensor& q = input.q;
  kernels::DecodeAttentionParams params;
  params.q = q.const_data_ptr();
  params.o = output.o.mutable_data_ptr();
  params.lse = output.lse.mutable_data_ptr<float>();
  params.cache.k = input.k.const_data_ptr();
  params.cache.v = input.v.const_data_ptr();
  params.cache.sequence_stride = input.k.stride(0);
  params.cache.token_stride = input.k.stride(1);
  params.cache.head_stride = input.k.stride(2);
  if (input.page_table.defined()) {
    params.cache.page_table = input.page_table.const_data_ptr<int32_t>();
    params.cache.page_table_stride = input.page_table.stride(0);
    params.cache.page_size = static_cast<int32_t>(input.k.size(1));
  }
  params.key_counts = input.key_counts.const_data_ptr<int32_t>();
  params.batch = static_cast<int32_t>(q.size(0));
  params.query_tokens = static_cast<int32_t>(q.size(1));
  params.num_heads = static_cast<int32_t>(q.size(2));
  params.num_key_value_heads = static_cast<int32_t>(input.k.size(2));
  params.head_dim = static_cast<int32_t>(q.size(3));
  params.max_keys = static_cast<int32_t>(input.max_keys);
  params.dtype = kernel_dtype(q, "decode_attention", "q");
  params.softmax_scale = static_cast<float>(input.softmax_scale);
  params.head_modes = plan.head_modes.data();
  params.sink_tokens = plan.sink_tokens;
  params.window = plan.window;
  return params;
}

SelectedKeys empty_selection(const DecodeSelectionInput& selection, const DecodeInput& input) {
  const at::Tensor& q = input.q;
  const auto selected = static_cast<int64_t>(selection.rules.size());
  int32_t most = 0;
  for (const kernels::SelectionRule& rule : selection.rules) {
    most = std::max(most, rule.max_tokens);
  }
  const at::TensorOptions ints = q.options().dtype(at::kInt);
  return {at::empty({q.size(0), q.size(1), selected, most}, ints), at::empty({q.size(0), q.size(1), selected}, ints),
          at::empty({q.size(0), q.size(1), selected}, q.options().dtype(at::kFloat))};
}

kernels::DecodeSelectionParams selection_params(const DecodeSelectionInput& selection, const DecodeInput& input,
                                                const AttentionPlan& plan, const std::vector<int32_t>& heads,
                                                const SelectedKeys& result) {
  const at::Tensor& q = input.q;
  kernels::DecodeSelectionParams params;
  params.queries = selection.queries.const_data_ptr<float>();
  params.gates = selection.gates.const_data_ptr<float>();
  params.cache.keys = selection.keys.const_data_ptr();
  params.cache.sequence_stride = selection.keys.stride(0);
  params.cache.group_stride = selection.keys.stride(1);
  if (input.page_table.defined()) {
    params.cache.page_table = input.page_table.const_data_ptr<int32_t>();
    params.cache.page_table_stride = input.page_table.stride(0);
    params.cache.page_size = static_cast<int32_t>(input.k.size(1));
  }
  params.key_counts = input.key_counts.const_data_ptr<int32_t>();
  params.selected = result.positions.mutable_data_ptr<int32_t>();
  params.selected_counts = result.counts.mutable_data_ptr<int32_t>();
  params.far_mass = result.far_mass.mutable_data_ptr<float>();
  params.batch = static_cast<int32_t>(q.size(0));
  params.query_tokens = static_cast<int32_t>(q.size(1));
  params.num_heads = static_cast<int32_t>(q.size(2));
  params.num_key_value_heads = static_cast<int32_t>(input.k.size(2));
  params.num_selected_heads = static_cast<int32_t>(heads.size());
  params.selected_heads = heads.data();
  params.rules = selection.rules.data();
  params.max_selected = static_cast<int32_t>(result.positions.size(3));
  params.max_keys = static_cast<int32_t>(input.max_keys);
  params.sink_tokens = plan.sink_tokens;
  params.window = plan.window;
  return params;
}

void reserve(at::Tensor& buffer, size_t bytes, const at::Tensor& like) {
  if (!buffer.defined() || buffer.device() != like.device() || buffer.numel() < static_cast<int64_t>(bytes)) {
    buffer = at::zeros({static_cast<int64_t>(bytes)}, like.options().dtype(at::kByte));
  }
}

}  // namespace retrosparse::ops
