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

/// The selection of checked arguments, in the two halves of the kernels; a CPU does all of it in the second one.
class Selection {
 public:
  Selection(const DecodeSelectionInput& selection, const DecodeInput& input, const AttentionPlan& plan,
            DecodeWorkspace& workspace)
      : heads_(plan.selected_heads()),
        queries_(selection.queries.contiguous()),
        gates_(selection.gates.contiguous()),
        rules_(selection.rules),
        workspace_(workspace) {
    const at::Tensor& q = input.q;
    for (const kernels::SelectionRule& rule : rules_) {
      params_.max_selected = std::max(params_.max_selected, rule.max_tokens);
    }
    const auto selected = static_cast<int64_t>(heads_.size());
    const at::TensorOptions ints = q.options().dtype(at::kInt);
    result_ = {at::empty({q.size(0), q.size(1), selected, params_.max_selected}, ints),
               at::empty({q.size(0), q.size(1), selected}, ints),
               at::empty({q.size(0), q.size(1), selected}, q.options().dtype(at::kFloat))};
    params_.queries = queries_.const_data_ptr<float>();
    params_.gates = gates_.const_data_ptr<float>();
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
    params_.rules = rules_.data();
    params_.max_keys = static_cast<int32_t>(input.max_keys);
    params_.sink_tokens = plan.sink_tokens;
    params_.window = plan.window;
  }

  bool selects() const {
    return result_.counts.numel() > 0;
  }

  /// Scores and candidates.
  void start() {
#ifdef RETROSPARSE_WITH_CUDA
    const at::Device device = result_.counts.device();
    if (device.is_cuda()) {
      launch_on(device, kOperation, [&](cudaStream_t stream) {
        const auto bytes = static_cast<int64_t>(kernels::sm90::decode_selection_workspace(params_));
        at::Tensor& buffer = workspace_.selection;
        if (!buffer.defined() || buffer.device() != device || buffer.numel() < bytes) {
          buffer = at::empty({bytes}, result_.counts.options().dtype(at::kByte));
        }
        params_.workspace = buffer.mutable_data_ptr();
        return kernels::sm90::decode_selection_scores(params_, stream);
      });
    }
#endif
  }

  /// What the rules take. `lse_local`: contiguous, float32 [batch, query_tokens, num_heads].
  SelectedKeys finish(const at::Tensor& lse_local) {
    params_.lse_local = lse_local.const_data_ptr<float>();
#ifdef RETROSPARSE_WITH_CUDA
    if (lse_local.is_cuda()) {
      launch_on(lse_local.device(), kOperation,
                [&](cudaStream_t stream) { return kernels::sm90::decode_selection_pick(params_, stream); });
      return result_;
    }
#endif
    kernels::reference::decode_selection(params_);
    return result_;
  }

 private:
  const std::vector<int32_t> heads_;
  const at::Tensor queries_, gates_;
  const std::vector<kernels::SelectionRule> rules_;
  [[maybe_unused]] DecodeWorkspace& workspace_;
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
  const at::Tensor lse = lse_local.contiguous();
  Selection steps(selection, input, plan, workspace);
  steps.start();
  return steps.finish(lse);
}

SparseDecodeOutput sparse_decode(const DecodeInput& any_input, const DecodeSelectionInput& any_selection,
                                 const AttentionPlan& plan, DecodeWorkspace& workspace) {
  check_decode(any_input, plan, kOperation);
  check_arguments(any_selection, any_input, plan.selected_heads());
  // All copies come first: from the scores on nothing is launched but the kernels of the step.
  DecodeInput input = any_input;
  input.q = any_input.q.contiguous();
  Selection selection(any_selection, input, plan, workspace);
  SparseDecodeOutput result;
  result.attention = selection.selects() ? decode_resident_beside(input, plan, workspace, [&] { selection.start(); })
                                         : decode_resident(input, plan, workspace);
  result.selected = selection.finish(result.attention.lse);
  decode_selected(input, plan, result.selected, result.attention, workspace);
  return result;
}

}  // namespace retrosparse::ops
