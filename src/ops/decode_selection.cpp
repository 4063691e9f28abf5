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

/// A selection of checked, contiguous arguments, which outlive it; run() launches nothing but its kernels.
class Selection {
 public:
  Selection(const DecodeSelectionInput& selection, const DecodeInput& input, const AttentionPlan& plan,
            [[maybe_unused]] DecodeWorkspace& workspace)
      : heads_(plan.selected_heads()) {
    const at::Tensor& q = input.q;
    const auto selected = static_cast<int64_t>(heads_.size());
    int32_t most = 0;
    for (const kernels::SelectionRule& rule : selection.rules) {
      most = std::max(most, rule.max_tokens);
    }
    const at::TensorOptions ints = q.options().dtype(at::kInt);
    result_ = {at::empty({q.size(0), q.size(1), selected, most}, ints),
               at::empty({q.size(0), q.size(1), selected}, ints),
               at::empty({q.size(0), q.size(1), selected}, q.options().dtype(at::kFloat))};
    if (result_.counts.numel() == 0) {
      return;
    }
    params_.queries = selection.queries.const_data_ptr<float>();
    params_.gates = selection.gates.const_data_ptr<float>();
    params_.cache.keys = selection.keys.const_data_ptr();
    params_.cache.sequence_stride = selection.keys.stride(0);
    params_.cache.group_stride = selection.keys.stride(1);
    if (input.page_table.defined()) {
      params_.cache.page_table = input.page_table.const_data_ptr<int32_t>();
      params_.cache.page_table_stride = input.page_table.stride(0);
      params_.cache.page_size = static_cast<int32_t>(input.k.size(1));
    }
    params_.key_counts = input.key_counts.const_data_ptr<int32_t>();
    params_.selected = result_.positions.mutable_data_ptr<int32_t>();
    params_.selected_counts = result_.counts.mutable_data_ptr<int32_t>();
    params_.far_mass = result_.far_mass.mutable_data_ptr<float>();
    params_.batch = static_cast<int32_t>(q.size(0));
    params_.query_tokens = static_cast<int32_t>(q.size(1));
    params_.num_heads = static_cast<int32_t>(q.size(2));
    params_.num_key_value_heads = static_cast<int32_t>(input.k.size(2));
    params_.num_selected_heads = static_cast<int32_t>(selected);
    params_.selected_heads = heads_.data();
    params_.rules = selection.rules.data();
    params_.max_selected = most;
    params_.max_keys = static_cast<int32_t>(input.max_keys);
    params_.sink_tokens = plan.sink_tokens;
    params_.window = plan.window;
#ifdef RETROSPARSE_WITH_CUDA
    if (q.is_cuda()) {
      const c10::cuda::CUDAGuard guard(q.device());
      reserve(workspace.selection, kernels::sm90::decode_selection_workspace(params_), kernels::kSelectionCounterBytes,
              q);
      params_.workspace = workspace.selection.mutable_data_ptr();
    }
#endif
  }
  Selection(const Selection&) = delete;
  Selection& operator=(const Selection&) = delete;

  /// `beside_attention`: the launch before on the stream is that of decode_resident(), and nothing that the scores are
  /// made of has been touched since.
  SelectedKeys run(const at::Tensor& lse_local, bool beside_attention) {
    if (result_.counts.numel() == 0) {
      return result_;
    }
    params_.lse_local = lse_local.const_data_ptr<float>();
    params_.scores_overlap_attention = beside_attention;
#ifdef RETROSPARSE_WITH_CUDA
    if (lse_local.is_cuda()) {
      launch_on(lse_local.device(), kOperation,
                [&](cudaStream_t stream) { return kernels::sm90::decode_selection(params_, stream); });
      return result_;
    }
#endif
    kernels::reference::decode_selection(params_);
    return result_;
  }

 private:
  const std::vector<int32_t> heads_;
  SelectedKeys result_;
  kernels::DecodeSelectionParams params_;
};

}  // namespace

SelectedKeys decode_selection(const DecodeSelectionInput& selection, const DecodeInput& input,
                              const AttentionPlan& plan, const at::Tensor& lse_local, DecodeWorkspace& workspace) {
  check_decode(input, plan, kOperation);
  check_arguments(selection, input, plan.selected_heads());
  const at::Tensor& q = input.q;
  require_tensor(lse_local, at::kFloat, {q.size(0), q.size(1), q.size(2)}, q.device(), kOperation, "lse_local");
  const DecodeSelectionInput side_by_side = contiguous(selection);
  return Selection(side_by_side, input, plan, workspace).run(lse_local.contiguous(), false);
}

SparseDecodeOutput sparse_decode(const DecodeInput& any_input, const DecodeSelectionInput& any_selection,
                                 const AttentionPlan& plan, DecodeWorkspace& workspace) {
  check_decode(any_input, plan, kOperation);
  check_arguments(any_selection, any_input, plan.selected_heads());
  // All copies and the workspace come first: from the attention on nothing is launched but the kernels of the step.
  const DecodeSelectionInput selection = contiguous(any_selection);
  DecodeInput input = any_input;
  input.q = any_input.q.contiguous();
  Selection call(selection, input, plan, workspace);
  SparseDecodeOutput result;
  result.attention = decode_resident(input, plan, workspace);
  result.selected = call.run(result.attention.lse, true);
  decode_selected(input, plan, result.selected, result.attention, workspace, true);
  return result;
}

}  // namespace retrosparse::ops
