#include "retrosparse_kernels/few_query_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/dot_products.h"

namespace retrosparse::kernels::cpu {
namespace {

constexpr int64_t kKeysPerBlock = 128;  ///< their scores stay in the first-level cache
constexpr int64_t kKeysAtOnce = 4;      ///< values that are added in one pass over the output

/// out += sum_n shares[n] * v[n]
RETROSPARSE_INLINE void add_values(const float* shares, const float* v, int64_t stride, int64_t count, int64_t head_dim,
                                   float* __restrict__ out) {
  int64_t n = 0;
  for (; n + kKeysAtOnce <= count; n += kKeysAtOnce) {
    const float *v0 = v + n * stride, *v1 = v0 + stride, *v2 = v1 + stride, *v3 = v2 + stride;
    const float p0 = shares[n], p1 = shares[n + 1], p2 = shares[n + 2], p3 = shares[n + 3];
    for (int64_t d = 0; d < head_dim; ++d) {
      out[d] += p0 * v0[d] + p1 * v1[d] + p2 * v2[d] + p3 * v3[d];
    }
  }
  for (; n < count; ++n) {
    for (int64_t d = 0; d < head_dim; ++d) {
      out[d] += shares[n] * v[n * stride + d];
    }
  }
}

/// One row of a part: the sum over the keys so far, relative to their maximum.
struct Row {
  float* out;  // [head_dim]
  float* maximum;
  float* sum;
};

RETROSPARSE_INLINE Row row_of(float* part, int64_t row, int64_t head_dim) {
  float* begin = part + row * (head_dim + 2);
  return {begin, begin + head_dim, begin + head_dim + 1};
}

/// Online softmax (arXiv 1805.02867): adds a block of keys to a row.
RETROSPARSE_INLINE void add_block(const FewQueryAttentionParams& params, const float* q, const float* k, const float* v,
                                  int64_t count, Row row) {
  float scores[kKeysPerBlock];
  dot_products(q, k, params.k_token_stride, count, params.head_dim, scores);
  float maximum = *row.maximum;
  for (int64_t n = 0; n < count; ++n) {
    scores[n] *= params.scale;
    maximum = scores[n] > maximum ? scores[n] : maximum;
  }
  const float shrink = std::exp(*row.maximum - maximum);
  float sum = 0;
  for (int64_t n = 0; n < count; ++n) {
    scores[n] = std::exp(scores[n] - maximum);
    sum += scores[n];
  }
  for (int64_t d = 0; d < params.head_dim; ++d) {
    row.out[d] *= shrink;
  }
  add_values(scores, v, params.v_token_stride, count, params.head_dim, row.out);
  *row.maximum = maximum;
  *row.sum = *row.sum * shrink + sum;
}

RETROSPARSE_INLINE void part_body(const FewQueryAttentionParams& params, int64_t group, int64_t key_begin,
                                  int64_t key_end, float* part) {
  const int64_t group_size = params.num_heads / params.num_key_value_heads;
  for (int64_t index = 0; index < params.rows(); ++index) {
    const Row row = row_of(part, index, params.head_dim);
    std::fill_n(row.out, params.head_dim, 0.0f);
    *row.maximum = -std::numeric_limits<float>::infinity();
    *row.sum = 0;
  }
  for (int64_t key = key_begin; key < key_end; key += kKeysPerBlock) {
    const int64_t count = std::min(kKeysPerBlock, key_end - key);
    const float* k = params.k + key * params.k_token_stride + group * params.k_head_stride;
    const float* v = params.v + key * params.v_token_stride + group * params.v_head_stride;
    for (int64_t index = 0; index < params.rows(); ++index) {
      const int64_t token = index / group_size, head = group * group_size + index % group_size;
      const float* q = params.q + token * params.q_token_stride + head * params.q_head_stride;
      add_block(params, q, k, v, count, row_of(part, index, params.head_dim));
    }
  }
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) void part_with_avx2(const FewQueryAttentionParams& params, int64_t group,
                                                        int64_t key_begin, int64_t key_end, float* part) {
  part_body(params, group, key_begin, key_end, part);
}
#endif

}  // namespace

void few_query_attention_part(const FewQueryAttentionParams& params, int64_t group, int64_t key_begin, int64_t key_end,
                              float* part) {
#ifdef __x86_64__
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  if (has_avx2) {
    return part_with_avx2(params, group, key_begin, key_end, part);
  }
#endif
  part_body(params, group, key_begin, key_end, part);
}

void few_query_attention_merge(const FewQueryAttentionParams& params, int64_t group, const float* parts,
                               int64_t num_parts, float* out, float* lse) {
  const int64_t group_size = params.num_heads / params.num_key_value_heads;
  const int64_t row_size = params.head_dim + 2, part_size = few_query_attention_part_size(params);
  for (int64_t index = 0; index < params.rows(); ++index) {
    const int64_t token = index / group_size, head = group * group_size + index % group_size;
    const int64_t place = token * params.num_heads + head;
    const float* first = parts + index * row_size;
    float maximum = -std::numeric_limits<float>::infinity();
    for (int64_t part = 0; part < num_parts; ++part) {
      maximum = std::max(maximum, first[part * part_size + params.head_dim]);
    }
    float sum = 0;
    float* row_out = out + place * params.head_dim;
    std::fill_n(row_out, params.head_dim, 0.0f);
    for (int64_t part = 0; part < num_parts; ++part) {
      const float* row = first + part * part_size;
      const float share = std::exp(row[params.head_dim] - maximum);
      sum += share * row[params.head_dim + 1];
      for (int64_t d = 0; d < params.head_dim; ++d) {
        row_out[d] += share * row[d];
      }
    }
    for (int64_t d = 0; d < params.head_dim; ++d) {
      row_out[d] /= sum;
    }
    lse[place] = maximum + std::log(sum);
  }
}

}  // namespace retrosparse::kernels::cpu
