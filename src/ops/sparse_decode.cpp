#include <ATen/ATen.h>
#include <retrosparse_kernels/sparse_decode.h>

#include "ops/binding.h"
#include "ops/decode_checks.h"
#include "ops/decode_params.h"

namespace retrosparse::ops {
namespace {

constexpr std::string_view kOperation = "sparse_decode";

}  // namespace

SparseDecodeOutput sparse_decode(const DecodeInput& any_input, const DecodeSelectionInput& any_selection,
                                 const AttentionPlan& plan, [[maybe_unused]] DecodeWorkspace& workspace) {
  check_decode(any_input, plan, kOperation);
  check_selection(any_selection, any_input, plan, kOperation);
  DecodeInput input = any_input;
  input.q = any_input.q.contiguous();
  const DecodeSelectionInput selection = contiguous(any_selection);
  const std::vector<int32_t> heads = plan.selected_heads();
  SparseDecodeOutput result = {empty_output(input), empty_selection(selection, input)};
  kernels::SparseDecodeParams params;
  params.attention = attention_params(input, plan, result.attention);
  params.selection = selection_params(selection, input, plan, heads, result.selected);
#ifdef RETROSPARSE_WITH_CUDA
  if (input.q.is_cuda()) {
    launch_on(input.q.device(), kOperation, [&](cudaStream_t stream) {
      reserve(workspace.sparse, kernels::sm90::sparse_decode_workspace(params), input.q);
      params.workspace = workspace.sparse.mutable_data_ptr();
      return kernels::sm90::sparse_decode(params, stream);
    });
    return result;
  }
#endif
  kernels::reference::sparse_decode(params);
  return result;
}

}  // namespace retrosparse::ops
