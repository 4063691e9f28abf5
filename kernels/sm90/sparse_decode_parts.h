#pragma once
// The launches of a sparse decode step that run side by side: only the flags in the workspace of the selection order
// them, not the stream.
#include "retrosparse_kernels/decode_attention.h"
#include "sm90/selection_plan.h"

namespace retrosparse::kernels::sm90 {

/// Scores the keys of every row. Waits for what is before it on the stream.
cudaError_t score_keys(const SelectionPlan& plan, const SelectionKernelParams& params, int32_t batch,
                       cudaStream_t stream);

/// Lists the candidates of every row, and sets the row's flag `listed` then. Some time after score_keys() on the
/// stream, with nothing between them but the attention below. Launches after it that wait for it have waited for all
/// before it.
cudaError_t list_candidates(const SelectionPlan& plan, const SelectionKernelParams& params, cudaStream_t stream);

/// decode_attention() of part kResident, some time after score_keys() on the stream, likewise. Sets the flag of a row
/// [batch, query_tokens, kSelected heads] when its o_float and lse are written. Launches after it that wait for it have
/// waited for all before it.
cudaError_t decode_attention_beside_selection(const DecodeAttentionParams& params, int32_t* row_flags,
                                              cudaStream_t stream);

/// Whether all blocks of that find room beside the scores at once.
bool starts_at_once_beside_selection(const DecodeAttentionParams& params);

}  // namespace retrosparse::kernels::sm90
