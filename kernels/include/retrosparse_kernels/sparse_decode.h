#pragma once
#include "retrosparse_kernels/decode_attention.h"
#include "retrosparse_kernels/decode_selection.h"

#ifdef RETROSPARSE_WITH_CUDA
namespace retrosparse::kernels::sm90 {

/// A sparse decode step: decode_attention(attention) of part kResident, decode_selection(selection), and
/// decode_attention() of part kSelected with what was selected, but for rounding. Both params are of the same batch,
/// query tokens and heads, and the selection's lse_local is the attention's lse, which is that of all keys in the end.
///
/// Four launches, of which the first three run side by side, ordered on `stream`, without host synchronisation or
/// allocation: can be captured in a graph. Deterministic. Wants what the single operations want; arguments that cannot
/// be right return cudaErrorInvalidValue before anything is launched.
cudaError_t sparse_decode(const DecodeSelectionParams& selection, const DecodeAttentionParams& attention,
                          cudaStream_t stream);

}  // namespace retrosparse::kernels::sm90
#endif
