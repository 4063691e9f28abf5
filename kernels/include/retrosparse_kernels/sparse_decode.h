#pragma once
#include "retrosparse_kernels/decode_attention.h"
#include "retrosparse_kernels/decode_selection.h"

namespace retrosparse::kernels {

/// A decode step of a layer with heads of kSelected: the log-sum-exp over sinks and window, the selection that needs
/// it, and the attention over all of it. As decode_selection() with `lse_local` from the attention, then
/// decode_attention().
///
/// Both halves have the same batch, query_tokens, num_heads, num_key_value_heads, max_keys, sink_tokens, window and
/// key_counts, and selection.selected_heads are the heads of kSelected. Of the attention, `selected`,
/// `selected_counts`, `max_selected` and `workspace` are not used; of the selection, `lse_local` and `workspace` are
/// not, and `selected` and `far_mass` may be null.
struct SparseDecodeParams {
  DecodeAttentionParams attention;
  DecodeSelectionParams selection;
  void* workspace = nullptr;  ///< device memory of sparse_decode_workspace() bytes, aligned to 16; see there
};

namespace reference {
/// In float64 from the rounded inputs but for the index scores (float32); all pointers are host memory, and
/// selection.selected has to be there. `workspace` is not used.
void sparse_decode(const SparseDecodeParams& params);
}  // namespace reference

#ifdef RETROSPARSE_WITH_CUDA
namespace sm90 {
/// Bytes of workspace for these params (their pointers, but for the host arrays, are not looked at). The caller zeroes
/// the first kSelectionCounterBytes of it once; every call leaves them zero. Two calls that
/// may run at the same time need two.
size_t sparse_decode_workspace(const SparseDecodeParams& params);

/// Two launches, ordered on `stream`: the first reads sinks, window and index keys, all in one grid; the second selects
/// and attends to what it selects. Without host synchronisation or allocation: can be captured in a graph, and the
/// lengths may change between replays. Deterministic for a given batch shape and max_keys. Wants what
/// decode_attention() and decode_selection() want; arguments that cannot be right return cudaErrorInvalidValue before
/// anything is launched.
cudaError_t sparse_decode(const SparseDecodeParams& params, cudaStream_t stream);
}  // namespace sm90
#endif

}  // namespace retrosparse::kernels
