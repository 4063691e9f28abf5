#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "ops/binding.h"
#include "ops/decode_checks.h"

namespace retrosparse::ops {
namespace {

constexpr std::string_view kOperation = "decode_selection";

int64_t count_groups(const std::vector<int32_t>& heads, int64_t heads_per_group) {
  int64_t groups = 0;
  for (size_t i = 0; i < heads.size(); ++i) {
    groups += i == 0 || heads[i] / heads_per_group != heads[i - 1] / heads_per_group ? 1 : 0;
  }
  return groups;
}

void check_arguments(const DecodeSelectionInput& selection, const DecodeInput& input,
                     const std::vector<int32_t>& heads) {
  const at::Tensor& q = input.q;
  const auto selected = static_cast<int64_t>(heads.size());
  require_tensor(selection.queries, at::kFloat, {q.size(0), q.size(1), selected, kernels::kIndexDim}, q.device(),
                 kOperation, "queries");
  require_tensor(selection.gates, at::kFloat, {q.size(0), q.size(1), selected}, q.device(), kOperation, "gates");
  require_tensor(
      selection.keys, at::kBFloat16,
      {input.k.size(0), count_groups(heads, q.size(2) / input.k.size(2)), input.k.size(1), kernels::kIndexDim},
      q.device(), kOperation, "keys");
  if (selection.keys.stride(3) != 1 || selection.keys.stride(2) != kernels::kIndexDim) {
    reject(kOperation, "keys", "tokens side by side",
           fmt::format("strides {} and {}", selection.keys.stride(2), selection.keys.stride(3)));
  }
  if (selection.rules.size() != heads.size()) {
    reject(kOperation, "rules", fmt::format("{} of them", heads.size()), fmt::format("{}", selection.rules.size()));
  }
  for (const kernels::SelectionRule& rule : selection.rules) {
    if (!(rule.p >= 0 && rule.p <= 1) || rule.min_tokens < 0 || rule.max_tokens < rule.min_tokens ||
        rule.max_tokens > kernels::kMaxSelectedTokens) {
      reject(kOperation, "rules",
             fmt::format("p in [0, 1] and 0 <= min_tokens <= max_tokens <= {}", kernels::kMaxSelectedTokens),
             fmt::format("{}, {}, {}", rule.p, rule.min_tokens, rule.max_tokens));
    }
  }
}

DecodeSelectionInput contiguous(const DecodeSelectionInput& any) {
  DecodeSelectionInput selection = any;
  selection.queries = any.queries.contiguous();
  selection.gates = any.gates.contiguous();
  return selection;
}

/// Of checked, contiguous arguments. `beside_attention`: the launch before on the stream is that of decode_resident(),
/// and nothing that the scores are made of has been touched since.
SelectedKeys select(const DecodeSelectionInput& selection, const DecodeInput& input, const AttentionPlan& plan,
                    const at::Tensor& lse_local, [[maybe_unused]] bool beside_attention,
                    [[maybe_unused]] DecodeWorkspace& workspace) {
  const std::vector<int32_t> heads = plan.selected_heads();
  const at::Tensor& q = input.q;
  const auto selected = static_cast<int64_t>(heads.size());
  int32_t most = 0;
  for (const kernels::SelectionRule& rule : selection.rules) {
    most = std::max(most, rule.max_tokens);
  }
  const at::TensorOptions ints = q.options().dtype(at::kInt);
  SelectedKeys result = {at::empty({q.size(0), q.size(1), selected, most}, ints),
                         at::empty({q.size(0), q.size(1), selected}, ints),
                         at::empty({q.size(0), q.size(1), selected}, q.options().dtype(at::kFloat))};
  if (result.counts.numel() == 0) {
    return result;
  }
  kernels::DecodeSelectionParams params;
  params.queries = selection.queries.const_data_ptr<float>();
  params.gates = selection.gates.const_data_ptr<float>();
  params.lse_local = lse_local.const_data_ptr<float>();
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
  params.num_selected_heads = static_cast<int32_t>(selected);
  params.selected_heads = heads.data();
  params.rules = selection.rules.data();
  params.max_selected = most;
  params.max_keys = static_cast<int32_t>(input.max_keys);
  params.sink_tokens = plan.sink_tokens;
  params.window = plan.window;
#ifdef RETROSPARSE_WITH_CUDA
  if (q.is_cuda()) {
    launch_on(q.device(), kOperation, [&](cudaStream_t stream) {
      const bool is_new = reserve(workspace.selection, kernels::sm90::decode_selection_workspace(params), q);
      params.scores_overlap_attention = beside_attention && !is_new;  // else it is not the launch before
      params.workspace = workspace.selection.mutable_data_ptr();
      return kernels::sm90::decode_selection(params, stream);
    });
    return result;
  }
#endif
  kernels::reference::decode_selection(params);
  return result;
}

}  // namespace

SelectedKeys decode_selection(const DecodeSelectionInput& selection, const DecodeInput& input,
                              const AttentionPlan& plan, const at::Tensor& lse_local, DecodeWorkspace& workspace) {
  check_decode(input, plan, kOperation);
  check_arguments(selection, input, plan.selected_heads());
  const at::Tensor& q = input.q;
  require_tensor(lse_local, at::kFloat, {q.size(0), q.size(1), q.size(2)}, q.device(), kOperation, "lse_local");
  return select(contiguous(selection), input, plan, lse_local.contiguous(), false, workspace);
}

SparseDecodeOutput sparse_decode(const DecodeInput& any_input, const DecodeSelectionInput& any_selection,
                                 const AttentionPlan& plan, DecodeWorkspace& workspace) {
  check_decode(any_input, plan, kOperation);
  check_arguments(any_selection, any_input, plan.selected_heads());
  // All copies come first: from the attention on nothing is launched but the kernels of the step.
  const DecodeSelectionInput selection = contiguous(any_selection);
  DecodeInput input = any_input;
  input.q = any_input.q.contiguous();
  SparseDecodeOutput result;
  result.attention = decode_resident(input, plan, workspace);
  result.selected = select(selection, input, plan, result.attention.lse, true, workspace);
  decode_selected(input, plan, result.selected, result.attention, workspace);
  return result;
}

}  // namespace retrosparse::ops
