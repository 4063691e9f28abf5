#pragma once
// From tensors to the parameters of the decode kernels, and to the tensors that these write.
#include "ops/decode_attention.h"

namespace retrosparse::ops {

/// Rejects, in the name of `operation`, index queries, gates, keys and rules that do not fit `input` and `plan`, which
/// do fit together.
void check_selection(const DecodeSelectionInput& selection, const DecodeInput& input, const AttentionPlan& plan,
                     std::string_view operation);

/// With contiguous queries and gates.
DecodeSelectionInput contiguous(const DecodeSelectionInput& selection);

DecodeOutput empty_output(const DecodeInput& input);
SelectedKeys empty_selection(const DecodeSelectionInput& selection, const DecodeInput& input);

/// Without selected keys and workspace. All arguments outlive the result; input.q is contiguous.
kernels::DecodeAttentionParams attention_params(const DecodeInput& input, const AttentionPlan& plan,
                                                const DecodeOutput& output);

/// Without lse_local and workspace. All arguments outlive the result; `heads` are the kSelected ones.
kernels::DecodeSelectionParams selection_params(const DecodeSelectionInput& selection, const DecodeInput& input,
                                                const AttentionPlan& plan, const std::vector<int32_t>& heads,
                                                const SelectedKeys& result);

/// Makes `buffer` hold `bytes`, of which the kernels want the first ones zero at the start and leave them so.
void reserve(at::Tensor& buffer, size_t bytes, const at::Tensor& like);

}  // namespace retrosparse::ops
