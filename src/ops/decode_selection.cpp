#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "ops/binding.h"
#include "ops/decode_checks.h"
#include "ops/decode_params.h"

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

}  // namespace

SelectionCall selection_call(const DecodeSelectionInput& selection, const DecodeInput& input, const AttentionPlan& plan,
                             const at::Tensor& lse_local) {
  check_decode(input, plan, kOperation);
  const at::Tensor& q = input.q;
  SelectionCall call;
  call.heads = plan.selected_heads();
  check_arguments(selection, input, call.heads);
  call.rules = selection.rules;
  call.queries = selection.queries.contiguous();
  call.gates = selection.gates.contiguous();
  const auto selected = static_cast<int64_t>(call.heads.size());
  int32_t most = 0;
  for (const kernels::SelectionRule& rule : call.rules) {
    most = std::max(most, rule.max_tokens);
  }
  const at::TensorOptions ints = q.options().dtype(at::kInt);
  call.selected = {at::empty({q.size(0), q.size(1), selected, most}, ints),
                   at::empty({q.size(0), q.size(1), selected}, ints),
                   at::empty({q.size(0), q.size(1), selected}, q.options().dtype(at::kFloat))};
  kernels::DecodeSelectionParams& params = call.params;
  require_tensor(lse_local, at::kFloat, {q.size(0), q.size(1), q.size(2)}, q.device(), kOperation, "lse_local");
  call.lse_local = lse_local.contiguous();
  params.lse_local = call.lse_local.const_data_ptr<float>();
  params.queries = call.queries.const_data_ptr<float>();
  params.gates = call.gates.const_data_ptr<float>();
  params.cache.keys = selection.keys.const_data_ptr();
  params.cache.sequence_stride = selection.keys.stride(0);
  params.cache.group_stride = selection.keys.stride(1);
  if (input.page_table.defined()) {
    params.cache.page_table = input.page_table.const_data_ptr<int32_t>();
    params.cache.page_table_stride = input.page_table.stride(0);
    params.cache.page_size = static_cast<int32_t>(input.k.size(1));
  }
  params.key_counts = input.key_counts.const_data_ptr<int32_t>();
  params.selected = call.selected.positions.mutable_data_ptr<int32_t>();
  params.selected_counts = call.selected.counts.mutable_data_ptr<int32_t>();
  params.far_mass = call.selected.far_mass.mutable_data_ptr<float>();
  params.batch = static_cast<int32_t>(q.size(0));
  params.query_tokens = static_cast<int32_t>(q.size(1));
  params.num_heads = static_cast<int32_t>(q.size(2));
  params.num_key_value_heads = static_cast<int32_t>(input.k.size(2));
  params.num_selected_heads = static_cast<int32_t>(selected);
  params.selected_heads = call.heads.data();
  params.rules = call.rules.data();
  params.max_selected = most;
  params.max_keys = static_cast<int32_t>(input.max_keys);
  params.sink_tokens = plan.sink_tokens;
  params.window = plan.window;
  return call;
}

#ifdef RETROSPARSE_WITH_CUDA
void use_workspace(SelectionCall& call, DecodeWorkspace& workspace) {
  const auto bytes = static_cast<int64_t>(kernels::sm90::decode_selection_workspace(call.params));
  reserve(workspace.selection, bytes, kernels::kSelectionCounterBytes, call.queries);
  call.params.workspace = workspace.selection.mutable_data_ptr();
}
#endif

SelectedKeys decode_selection(const DecodeSelectionInput& selection, const DecodeInput& input,
                              const AttentionPlan& plan, const at::Tensor& lse_local, DecodeWorkspace& workspace) {
  SelectionCall call = selection_call(selection, input, plan, lse_local);
  if (call.selected.counts.numel() == 0) {
    return call.selected;
  }
#ifdef RETROSPARSE_WITH_CUDA
  if (input.q.is_cuda()) {
    launch_on(input.q.device(), kOperation, [&](cudaStream_t stream) {
      use_workspace(call, workspace);
      return kernels::sm90::decode_selection(call.params, stream);
    });
    return call.selected;
  }
#endif
  kernels::reference::decode_selection(call.params);
  return call.selected;
}

}  // namespace retrosparse::ops
