#pragma once
#include <cstdint>

#include "retrosparse_kernels/decode_selection.h"
#include "retrosparse_kernels/prefill_attention.h"
#ifdef RETROSPARSE_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace retrosparse::kernels {

/// From how many far keys on a query tile's log-sum-exp comes from a sample of them, and which: the keys whose row in
/// the key tensor is a multiple of kTileSampleStride.
inline constexpr int32_t kTileSampleStride = 8;
inline constexpr int32_t kTileSampleFrom = 16384;

/// Selection of key tiles for the prefill of kSelected heads. For the query at position m and its far keys
/// n in [sink_tokens, m - window]:
///   score[n]  = index query . index key
///   lse_far   = log sum_n exp(score[n])                                      (or its estimate, see below)
///   threshold = log(tile_share) + log(exp(lse_far) + exp(lse_local - gate))
/// A 64-key tile is selected for a 128-query tile if one of the queries has a far key in it with score > threshold,
/// that is, one expected to hold more than `tile_share` of the query's whole attention: with far_mass = sigmoid(lse_far
/// + gate - lse_local) this is score - lse_far + log(far_mass) > log(tile_share).
///
/// Where the last query of a run of 384 (counted from the sequence's first query) has kTileSampleFrom far keys or more,
/// lse_far is estimated from every kTileSampleStride-th key, the largest of these counting once and the others
/// kTileSampleStride-fold: a key that outweighs the rest is no evidence of others like it.
struct TileSelectionParams {
  const void* queries = nullptr;     ///< [total_queries, R, kIndexDim] binary16: W_h q; R heads of kSelected, ascending
  const void* keys = nullptr;        ///< [K_r, total_keys, kIndexDim] binary16: U_g k; K_r KV groups with such a head
  const float* gates = nullptr;      ///< [R, total_queries]: w_h . q + b_h
  const float* lse_local = nullptr;  ///< [num_heads, total_queries]: log-sum-exp over sinks and window
  int64_t gates_head_stride = 0;
  int64_t lse_head_stride = 0;

  uint32_t* selected_tiles = nullptr;  ///< out, the layout of PrefillAttentionParams; every word of a row is written
  int64_t selected_tiles_head_stride = 0;
  int64_t selected_tiles_query_stride = 0;
  float* lse_far = nullptr;  ///< out [R, total_queries] with gates_head_stride, may be null; -inf without far keys

  int32_t total_queries = 0;
  int32_t total_keys = 0;
  int32_t num_heads = 0;
  int32_t num_key_value_heads = 0;
  int32_t num_selected_heads = 0;           ///< R
  const int32_t* selected_heads = nullptr;  ///< [R], host memory, ascending
  const float* tile_shares = nullptr;       ///< [R], host memory, each above 0
  int32_t sink_tokens = 0;
  int32_t window = 0;
  const PrefillSequence* sequences = nullptr;  ///< [num_sequences], host memory
  int32_t num_sequences = 0;
  int32_t* workspace = nullptr;  ///< device memory, one element; the GPU kernel's own, in any state
};

namespace reference {
/// In float64 from the binary16 inputs; all pointers are host memory. `margin`, if not null, gets
/// max over the tile of score - threshold for each [R, query tile, key tile], the last with stride
/// 32 * selected_tiles_query_stride, and -inf where the tile holds no far key.
void tile_selection(const TileSelectionParams& params, double* margin);
}  // namespace reference

#ifdef RETROSPARSE_WITH_CUDA
namespace sm90 {
/// One launch (more than 64 sequences: one for each 64), ordered on `stream`, without host synchronisation or
/// allocation; can be captured in a graph. Deterministic. Scores and thresholds are compared in binary16, thresholds
/// rounded down. At most 256 selected heads and 4M keys a sequence; pointers to queries and keys in multiples of 16
/// bytes. Arguments that cannot be right return cudaErrorInvalidValue before anything is launched.
cudaError_t tile_selection(const TileSelectionParams& params, cudaStream_t stream);
}  // namespace sm90
#endif

}  // namespace retrosparse::kernels
