#include <ATen/ATen.h>

#include "ops/binding.h"
#include "ops/decode_checks.h"
#include "ops/decode_params.h"

namespace retrosparse::ops {
namespace {

constexpr std::string_view kOperation = "decode_selection";

}  // namespace

SelectedKeys decode_selection(const DecodeSelectionInput& any_selection, const DecodeInput& input,
                              const AttentionPlan& plan, const at::Tensor& any_lse_local,
                              [[maybe_unused]] DecodeWorkspace& workspace) {
  check_decode(input, plan, kOperation);
  check_selection(any_selection, input, plan, kOperation);
  const at::Tensor& q = input.q;
  require_tensor(any_lse_local, at::kFloat, {q.size(0), q.size(1), q.size(2)}, q.device(), kOperation, "lse_local");
  const DecodeSelectionInput selection = contiguous(any_selection);
  const at::Tensor lse_local = any_lse_local.contiguous();
  const std::vector<int32_t> heads = plan.selected_heads();
  SelectedKeys result = empty_selection(selection, input);
  if (result.counts.numel() == 0) {
    return result;
  }
  kernels::DecodeSelectionParams params = selection_params(selection, input, plan, heads, result);
  params.lse_local = lse_local.const_data_ptr<float>();
#ifdef RETROSPARSE_WITH_CUDA
  if (q.is_cuda()) {
    launch_on(q.device(), kOperation, [&](cudaStream_t stream) {
      reserve(workspace.selection, kernels::sm90::decode_selection_workspace(params), q);
      params.workspace = workspace.selection.mutable_data_ptr();
      return kernels::sm90::decode_selection(params, stream);
    });
    return result;
  }
#endif
  kernels::reference::decode_selection(params);
  return result;
}

}  // namespace retrosparse::ops
