#include <ATen/ATen.h>
#ifdef RETROSPARSE_WITH_CUDA
#include <retrosparse_kernels/sparse_decode.h>
#endif

#include "ops/binding.h"
#include "ops/decode_params.h"

namespace retrosparse::ops {

SparseDecodeOutput sparse_decode(const DecodeInput& input, const DecodeSelectionInput& selection,
                                 const AttentionPlan& plan, DecodeWorkspace& workspace) {
  SparseDecodeOutput result;
#ifdef RETROSPARSE_WITH_CUDA
  if (input.q.defined() && input.q.is_cuda()) {
    result.attention = empty_output(input, true);
    SelectionCall select = selection_call(selection, input, plan, result.attention.lse);
    AttentionCall attend = attention_call(input, plan, kernels::DecodePart::kResident, nullptr, result.attention);
    result.selected = select.selected;
    launch_on(input.q.device(), "sparse_decode", [&](cudaStream_t stream) {
      use_workspace(select, workspace);
      use_workspace(attend, workspace);
      return kernels::sm90::sparse_decode(select.params, attend.params, stream);
    });
    return result;
  }
#endif
  result.attention = decode_resident(input, plan, workspace);
  result.selected = decode_selection(selection, input, plan, result.attention.lse, workspace);
  decode_selected(input, plan, result.selected, result.attention, workspace);
  return result;
}

}  // namespace retrosparse::ops
