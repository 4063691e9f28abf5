#include "ops/decode_attention.h"

#include <ATen/ATen.h>

#include "ops/binding.h"
#include "ops/decode_checks.h"
#include "ops/decode_params.h"

namespace retrosparse::ops {
namespace {

constexpr std::string_view kOperation = "decode_attention";

void check_selected(const SelectedKeys* selected, const at::Tensor& q, int64_t heads) {
  if (selected == nullptr || !selected->positions.defined() || selected->positions.dim() != 4) {
    reject(kOperation, "selected", "the keys of the kSelected heads",
           selected == nullptr ? "none" : describe(selected->positions));
  }
  require_tensor(selected->positions, at::kInt, {q.size(0), q.size(1), heads, selected->positions.size(3)}, q.device(),
                 kOperation, "selected.positions");
  require_tensor(selected->counts, at::kInt, {q.size(0), q.size(1), heads}, q.device(), kOperation, "selected.counts");
}

}  // namespace

DecodeOutput decode_attention(const DecodeInput& any_input, const AttentionPlan& plan, const SelectedKeys* selected,
                              [[maybe_unused]] DecodeWorkspace& workspace) {
  check_decode(any_input, plan, kOperation);
  DecodeInput input = any_input;
  input.q = any_input.q.contiguous();
  DecodeOutput output = empty_output(input);
  kernels::DecodeAttentionParams params = attention_params(input, plan, output);
  at::Tensor positions;
  at::Tensor counts;
  if (const auto heads = static_cast<int64_t>(plan.selected_heads().size()); heads > 0) {
    check_selected(selected, input.q, heads);
    positions = selected->positions.contiguous();
    counts = selected->counts.contiguous();
    params.selected = positions.const_data_ptr<int32_t>();
    params.selected_counts = counts.const_data_ptr<int32_t>();
    params.max_selected = static_cast<int32_t>(positions.size(3));
  }
#ifdef RETROSPARSE_WITH_CUDA
  if (input.q.is_cuda()) {
    launch_on(input.q.device(), kOperation, [&](cudaStream_t stream) {
      reserve(workspace.attention, kernels::sm90::decode_attention_workspace(params), input.q);
      params.workspace = workspace.attention.mutable_data_ptr();
      return kernels::sm90::decode_attention(params, stream);
    });
    return output;
  }
#endif
  kernels::reference::decode_attention(params);
  return output;
}

}  // namespace retrosparse::ops
