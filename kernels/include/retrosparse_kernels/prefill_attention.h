#pragma once
#include <cstdint>

#include "retrosparse_kernels/dtype.h"
#include "retrosparse_kernels/head_mode.h"
#ifdef RETROSPARSE_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace retrosparse::kernels {

/// One sequence of a packed batch. Its queries are its latest tokens: query i stands at position
/// key_count - query_count + i of the sequence, so that key_count == query_count is a whole prompt and
/// key_count > query_count a chunk of a prompt against the KV cache of what went before (and itself).
struct PrefillSequence {
  int32_t query_begin = 0;  ///< first row in q, o and lse
  int32_t query_count = 0;
  int32_t key_begin = 0;  ///< first row in k and v
  int32_t key_count = 0;  ///< at least query_count
};

/// Which keys a call attends to. Tile selection needs the log-sum-exp over sinks and window, so a prefill that selects
/// tiles is kResident, the selection, kSelected.
enum class PrefillPart : uint8_t {
  kAll,       ///< everything, in one launch
  kResident,  ///< all but the selected tiles: heads of kSelected are local here
  kSelected,  ///< heads of kSelected only: their selected tiles' far keys, merged into the `o` and `lse` of kResident
};

inline constexpr int kPrefillQueryTile = 128;  ///< queries per tile, counted from a sequence's first query
inline constexpr int kPrefillKeyTile = 64;     ///< keys per tile, counted from a sequence's first key

/// Causal attention of a prompt with one plan per query head:
///   o[m, h] = sum_n softmax_n(softmax_scale * q[m, h] . k[n, g]) v[n, g],  g = h / (num_heads / num_key_value_heads)
///   lse[h, m] = log sum_n exp(softmax_scale * q[m, h] . k[n, g])
/// over the keys n that head h's mode makes visible to query m. A query always sees its own key (window >= 1).
/// Strides are in elements; the last dimension is contiguous.
struct PrefillAttentionParams {
  const void* q = nullptr;  ///< [total_queries, num_heads, head_dim] of dtype
  const void* k = nullptr;  ///< [total_keys, num_key_value_heads, head_dim] of dtype
  const void* v = nullptr;  ///< as k
  void* o = nullptr;        ///< as q
  float* lse = nullptr;     ///< [num_heads, total_queries], may be null but with kSelected

  int64_t q_token_stride = 0, q_head_stride = 0;
  int64_t k_token_stride = 0, k_head_stride = 0;
  int64_t v_token_stride = 0, v_head_stride = 0;
  int64_t o_token_stride = 0, o_head_stride = 0;
  int64_t lse_head_stride = 0;

  int32_t total_queries = 0;
  int32_t total_keys = 0;
  int32_t num_heads = 0;
  int32_t num_key_value_heads = 0;
  int32_t head_dim = 0;
  Dtype dtype = Dtype::kBfloat16;
  PrefillPart part = PrefillPart::kAll;
  float softmax_scale = 0;  ///< greater than 0, usually head_dim^-1/2

  const HeadMode* head_modes = nullptr;  ///< [num_heads], host memory
  int32_t sink_tokens = 0;               ///< 0 or more
  int32_t window = 0;                    ///< 1 or more: the query itself and the window - 1 keys before it

  const PrefillSequence* sequences = nullptr;  ///< [num_sequences], host memory
  int32_t num_sequences = 0;

  /// Only for heads of kSelected and not with kResident, else null: bit t % 32 of word [r, i, t / 32] says that key
  /// tile t is selected for the r-th of those heads (ascending) and query tile i. Query tiles are numbered through the
  /// sequences in their order, each holding ceil(query_count / kPrefillQueryTile) of them. Selected tiles inside the
  /// window or among the sinks are welcome (each key counts once), and tiles past the diagonal are ignored.
  const uint32_t* selected_tiles = nullptr;
  int64_t selected_tiles_head_stride = 0;   ///< in words
  int64_t selected_tiles_query_stride = 0;  ///< in words; at least ceil(key_count / kPrefillKeyTile / 32) of a sequence

  int32_t* workspace = nullptr;  ///< device memory, one element; the GPU kernel's own, in any state
};

namespace reference {
/// Query head `head` of all sequences, in float64 from the rounded inputs. Heads are independent, so that a caller may
/// split them over threads. `selected_tiles` is host memory here.
void prefill_attention(const PrefillAttentionParams& params, int32_t head);
}  // namespace reference

#ifdef RETROSPARSE_WITH_CUDA
namespace sm90 {
/// All heads in one launch (more than 128 sequences: one for each 128), ordered on `stream`, without host
/// synchronisation or allocation; can be captured in a graph. Deterministic: bitwise equal results from equal inputs.
/// Wants dtype kBfloat16; head_dim 64 or 128; at most 256 heads; pointers and strides (except lse's) in multiples of
/// 16 bytes; what else is wrong with the arguments returns cudaErrorInvalidValue as well, before anything is launched.
cudaError_t prefill_attention(const PrefillAttentionParams& params, cudaStream_t stream);
}  // namespace sm90
#endif

}  // namespace retrosparse::kernels
