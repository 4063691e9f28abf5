#pragma once
// The launches of a sparse decode step that run side by side: only the flags in the workspace of the selection order
// them, not the stream.
#include "retrosparse_kernels/decode_attention.h"
#include "sm90/selection_plan.h"

namespace retrosparse::kernels::sm90 {

/// Lists the candidates of every row, and sets the row's flag `listed` then. Two launches; both wait for what is before
/// them on the stream.
cudaError_t list_candidates(const SelectionPlan& plan, const SelectionKernelParams& params, int32_t batch,
                            cudaStream_t stream);

/// decode_attention() of part kResident, right after list_candidates() on the stream and beside it. Sets the flag of a
/// row [batch, query_tokens, kSelected heads] when its o_float and lse are written. Launches after it that wait for it
/// have waited for list_candidates() as well.
cudaError_t decode_attention_beside_selection(const DecodeAttentionParams& params, int32_t* row_flags,
                                              cudaStream_t stream);

}  // namespace retrosparse::kernels::sm90
