#pragma once
#include <cstddef>
#include <cstdint>

#ifdef RETROSPARSE_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace retrosparse::kernels {

inline constexpr int kIndexDim = 16;  ///< width of index keys and queries

/// The index keys of a batch, U_g k: one for every key and every KV group that holds a kSelected head (there are K_r,
/// ascending). Contiguous or paged as KeyValueCache is, with index_dim innermost and tokens kIndexDim elements apart.
struct IndexCache {
  const void* keys = nullptr;           ///< [sequences or pages, K_r, tokens, kIndexDim] bf16
  int64_t sequence_stride = 0;          ///< in elements, between sequences or pages
  int64_t group_stride = 0;             ///< in elements
  const int32_t* page_table = nullptr;  ///< [batch, page_table_stride]; null for a contiguous cache
  int64_t page_table_stride = 0;
  int32_t page_size = 0;  ///< tokens in a page, a power of two
};

/// How many keys a kSelected head takes.
struct SelectionRule {
  float p = 0;             ///< share of a query's whole attention to cover; 1 takes all keys up to the cap
  int32_t min_tokens = 0;  ///< floor, 0 or more
  int32_t max_tokens = 0;  ///< cap, min_tokens to kMaxSelectedTokens
};
inline constexpr int32_t kMaxSelectedTokens = 4096;

/// Selection of single keys in decode, gated top-p with floor and cap. For the query at position m and its far keys
/// n in [sink_tokens, m - window]:
///   score[n] = fma over i = 0 .. kIndexDim - 1 of query[i] * key[n, i], from 0, in float32
///   lse_far  = log sum_n exp(score[n])
///   far_mass = sigmoid(lse_far + gate - lse_local)
///   share    = 1 - (1 - p) / far_mass
///   count    = the least k such that the k highest scores hold `share` of sum_n exp(score[n]); 0 where share <= 0
/// and the clamp(count, min_tokens, max_tokens) keys with the highest scores are selected, or all far keys where those
/// are fewer; of equal scores the lower position goes first.
struct DecodeSelectionParams {
  const float* queries = nullptr;    ///< [batch, query_tokens, R, kIndexDim]: W_h q
  const float* gates = nullptr;      ///< [batch, query_tokens, R]: w_h . q + b_h
  const float* lse_local = nullptr;  ///< [batch, query_tokens, num_heads]: log-sum-exp over sinks and window
  IndexCache cache;
  const int32_t* key_counts = nullptr;  ///< [batch], each query_tokens to max_keys
  int32_t* selected = nullptr;          ///< out [batch, query_tokens, R, max_selected], in rising order
  int32_t* selected_counts = nullptr;   ///< out [batch, query_tokens, R]
  float* far_mass = nullptr;            ///< out [batch, query_tokens, R], may be null

  int32_t batch = 0;
  int32_t query_tokens = 0;  ///< 1 to 8
  int32_t num_heads = 0;
  int32_t num_key_value_heads = 0;
  int32_t num_selected_heads = 0;           ///< R
  const int32_t* selected_heads = nullptr;  ///< [R], host memory: the kSelected heads, ascending
  const SelectionRule* rules = nullptr;     ///< [R], host memory
  int32_t max_selected = 0;                 ///< at least every rule's max_tokens
  int32_t max_keys = 0;                     ///< what key_counts may reach while the launch (or its graph) is used
  int32_t sink_tokens = 0;
  int32_t window = 0;
  /// The launch before this one on the stream is decode_attention() and has no part in what the scores are made of:
  /// queries, key_counts and cache. Scores may then run beside it.
  bool scores_overlap_attention = false;
  void* workspace = nullptr;  ///< device memory of decode_selection_workspace() bytes, aligned to 16; see there
};

/// The part of the workspace that the GPU kernels count in.
inline constexpr size_t kSelectionCounterBytes = 128;

namespace reference {
/// In float32 for the scores and float64 for the rest; all pointers are host memory.
void decode_selection(const DecodeSelectionParams& params);
}  // namespace reference

#ifdef RETROSPARSE_WITH_CUDA
namespace sm90 {
/// Bytes of workspace for these params (their pointers, but for the host arrays, are not looked at). The caller zeroes
/// the first kSelectionCounterBytes of it once; every selection leaves them zero. Two that may run at the same time
/// need two.
size_t decode_selection_workspace(const DecodeSelectionParams& params);

/// Three launches (scores; candidates; selection), ordered on `stream`, without host synchronisation or allocation: can
/// be captured in a graph. Deterministic. At most 256 selected heads; keys and strides in multiples of 16 bytes.
/// Arguments that cannot be right return cudaErrorInvalidValue before anything is launched.
cudaError_t decode_selection(const DecodeSelectionParams& params, cudaStream_t stream);
}  // namespace sm90
#endif

}  // namespace retrosparse::kernels
