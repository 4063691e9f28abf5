#pragma once
#include <cstdint>

namespace retrosparse::kernels {

/// Attention of a handful of query rows over cached keys that all of them see, as in decoding:
///   out[t, h] = sum_s softmax_s(scale * q[t, h] . k[s, g]) v[s, g],  g = h / (H / K)
/// Keys and values are read once for all the queries of a group, which is what bounds the time.
struct FewQueryAttentionParams {
  const float* q = nullptr;  ///< [num_queries, num_heads, head_dim] by the strides below
  const float* k = nullptr;  ///< [num_keys, num_key_value_heads, head_dim]
  const float* v = nullptr;  ///< [num_keys, num_key_value_heads, head_dim]
  int64_t num_queries = 0;   ///< a few: the memory of a part grows with it
  int64_t num_keys = 0;      ///< at least 1
  int64_t num_heads = 0;     ///< H, a multiple of K
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t q_token_stride = 0, q_head_stride = 0;  ///< in elements; the last dimension is contiguous
  int64_t k_token_stride = 0, k_head_stride = 0;
  int64_t v_token_stride = 0, v_head_stride = 0;
  float scale = 0;

  /// Rows that share a group's keys: its query heads at every query token.
  int64_t rows() const { return num_queries * (num_heads / num_key_value_heads); }
};

namespace cpu {

/// Floats that one part's result takes: for each row head_dim of output, not yet normalised, its maximum and its sum.
inline int64_t few_query_attention_part_size(const FewQueryAttentionParams& params) {
  return params.rows() * (params.head_dim + 2);
}

/// One group's rows over the keys [key_begin, key_end), at least one, into `part`. Parts are independent, so that a
/// caller may split groups and keys over threads.
void few_query_attention_part(const FewQueryAttentionParams& params, int64_t group, int64_t key_begin, int64_t key_end,
                              float* part);

/// Merges one group's parts [num_parts][part_size] into its heads of out [num_queries, num_heads, head_dim] and of the
/// log-sum-exp (natural) of the scaled scores, lse [num_queries, num_heads]; both contiguous.
void few_query_attention_merge(const FewQueryAttentionParams& params, int64_t group, const float* parts,
                               int64_t num_parts, float* out, float* lse);

}  // namespace cpu
}  // namespace retrosparse::kernels
