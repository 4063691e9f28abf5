#pragma once
// From tensors to the params of the decode kernels, for the calls that make up a step.
#include "ops/decode_attention.h"

namespace retrosparse::ops {

/// Params of one call of decode_attention(), and what they point to.
struct AttentionCall {
  kernels::DecodeAttentionParams params;
  at::Tensor q, positions, counts;
};

/// Outputs of the right shapes; `in_steps`: with what kResident hands to kSelected.
DecodeOutput empty_output(const DecodeInput& input, bool in_steps);

/// Throws std::invalid_argument if the arguments do not fit together. `selected` may be null where no head needs it;
/// the workspace is left out.
AttentionCall attention_call(const DecodeInput& input, const AttentionPlan& plan, kernels::DecodePart part,
                             const SelectedKeys* selected, DecodeOutput& output);

/// Params of one call of decode_selection(), what they point to, and its outputs.
struct SelectionCall {
  kernels::DecodeSelectionParams params;
  std::vector<int32_t> heads;
  std::vector<kernels::SelectionRule> rules;
  at::Tensor queries, gates, lse_local;
  SelectedKeys selected;
};

/// Throws std::invalid_argument if the arguments do not fit together. The workspace is left out.
SelectionCall selection_call(const DecodeSelectionInput& selection, const DecodeInput& input, const AttentionPlan& plan,
                             const at::Tensor& lse_local);

#ifdef RETROSPARSE_WITH_CUDA
/// Makes `buffer` hold `bytes` on the device of `like`; of a new one the first `zero_bytes` are zero.
void reserve(at::Tensor& buffer, int64_t bytes, int64_t zero_bytes, const at::Tensor& like);

/// Sets the call's workspace to `workspace`, which grows where it is too small.
void use_workspace(AttentionCall& call, DecodeWorkspace& workspace);
void use_workspace(SelectionCall& call, DecodeWorkspace& workspace);
#endif

}  // namespace retrosparse::ops
