#pragma once
#include <cstddef>
#include <cstdint>

#include "retrosparse_kernels/dtype.h"
#include "retrosparse_kernels/head_mode.h"
#ifdef RETROSPARSE_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace retrosparse::kernels {

/// Keys and values of a batch. Contiguous: key n of sequence b is row [b, n]. Paged: row [page_table[b, n / page_size],
/// n % page_size], where the first index is the page. Strides are in elements; head_dim is contiguous.
struct KeyValueCache {
  const void* k = nullptr;      ///< [sequences or pages, tokens, num_key_value_heads, head_dim] of dtype
  const void* v = nullptr;      ///< as k, with the same strides
  int64_t sequence_stride = 0;  ///< between sequences, or between pages
  int64_t token_stride = 0;
  int64_t head_stride = 0;
  const int32_t* page_table = nullptr;  ///< [batch, page_table_stride]; null for a contiguous cache
  int64_t page_table_stride = 0;
  int32_t page_size = 0;  ///< tokens in a page, a power of two
};

/// Which keys a call attends to. Selection needs the log-sum-exp of sinks and window, so a step with heads of kSelected
/// is usually kResident, the selection, kSelected.
enum class DecodePart : uint8_t {
  kAll,       ///< everything, in one launch
  kResident,  ///< all but the selected keys; heads of kSelected leave `o_float` and `lse` of their sinks and window
  kSelected,  ///< heads of kSelected only: their selected keys, merged with the `o_float` and `lse` of kResident
};

/// Attention of each sequence's latest query_tokens tokens, whose keys and values are in the cache already:
///   o[b, t, h] = sum_n softmax_n(softmax_scale * q[b, t, h] . k[b, n, g]) v[b, n, g]
/// over the keys that head h's mode makes visible to the query at position key_counts[b] - query_tokens + t.
struct DecodeAttentionParams {
  const void* q = nullptr;   ///< [batch, query_tokens, num_heads, head_dim] of dtype, contiguous
  void* o = nullptr;         ///< as q
  float* o_float = nullptr;  ///< as q in float32; only heads of kSelected, only kResident (out) and kSelected (in)
  float* lse = nullptr;      ///< [batch, query_tokens, num_heads]: log sum_n exp(...); may be null with kAll
  KeyValueCache cache;
  const int32_t* key_counts = nullptr;  ///< [batch], each query_tokens to max_keys: tokens in the cache

  int32_t batch = 0;
  int32_t query_tokens = 0;  ///< 1 to 8
  int32_t num_heads = 0;
  int32_t num_key_value_heads = 0;
  int32_t head_dim = 0;
  int32_t max_keys = 0;  ///< what key_counts may reach while this launch (or the graph it is captured in) is used
  Dtype dtype = Dtype::kBfloat16;
  DecodePart part = DecodePart::kAll;
  float softmax_scale = 0;  ///< greater than 0
  /// Only kSelected: the launch before this one on the stream wrote nothing that these params point to but `selected`
  /// and `selected_counts`, so that the rest is read while it still runs.
  bool follows_selection = false;

  const HeadMode* head_modes = nullptr;  ///< [num_heads], host memory
  int32_t sink_tokens = 0;               ///< 0 or more
  int32_t window = 0;                    ///< 1 or more, the query itself included

  /// Only for heads of kSelected (there are R, ascending) and not with kResident: the keys selected for a query, each
  /// once, none of them a sink or inside the query's own window.
  const int32_t* selected = nullptr;         ///< [batch, query_tokens, R, max_selected]
  const int32_t* selected_counts = nullptr;  ///< [batch, query_tokens, R], each 0 to max_selected
  int32_t max_selected = 0;

  void* workspace = nullptr;  ///< device memory of decode_attention_workspace() bytes, aligned to 16; see there
};

namespace reference {
/// Everything, in float64 from the rounded inputs; all pointers are host memory, `workspace` is not used.
void decode_attention(const DecodeAttentionParams& params);
}  // namespace reference

#ifdef RETROSPARSE_WITH_CUDA
namespace sm90 {
/// Bytes of workspace for these params (their pointers are not looked at). The caller zeroes it once;
/// every launch leaves it zero. Two launches that may run at the same time need two.
size_t decode_attention_workspace(const DecodeAttentionParams& params);

/// One launch, ordered on `stream`, without host synchronisation or allocation: can be captured in a graph, and the
/// lengths may change between replays. Deterministic for a given batch shape and max_keys. Wants dtype kBfloat16;
/// head_dim 64 or 128; at most 256 heads; pointers and strides in multiples of 16 bytes. Arguments that cannot be
/// right return cudaErrorInvalidValue before anything is launched.
cudaError_t decode_attention(const DecodeAttentionParams& params, cudaStream_t stream);
}  // namespace sm90
#endif

}  // namespace retrosparse::kernels
