#pragma once
#include <ATen/ATen.h>

#include <limits>

namespace retrosparse {

/// The definition, in float64 with a whole T x S mask: what every faster attention is compared with.
/// q [T, H, D], k and v [S, K, D], visible bool [T, S]; returns [T, H, D] float64 and writes lse [T, H].
inline at::Tensor plain_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                                  const at::Tensor& visible, at::Tensor* lse = nullptr) {
  const int64_t group_size = q.size(1) / k.size(1);
  const at::Tensor queries = q.to(at::kDouble).transpose(0, 1);
  const at::Tensor keys = k.to(at::kDouble).repeat_interleave(group_size, 1).transpose(0, 1);
  const at::Tensor values = v.to(at::kDouble).repeat_interleave(group_size, 1).transpose(0, 1);
  const at::Tensor scores = at::matmul(queries, keys.transpose(1, 2))
                                .mul(scale)
                                .masked_fill(visible.logical_not(), -std::numeric_limits<double>::infinity());
  if (lse != nullptr) {
    *lse = scores.logsumexp(-1).transpose(0, 1);
  }
  return at::matmul(at::softmax(scores, -1), values).transpose(0, 1);
}

/// Which of S keys the last T of them see: causal, and within `window` or among the first `sink_tokens`.
inline at::Tensor visible_keys(int64_t num_queries, int64_t num_keys, int64_t window, int64_t sink_tokens) {
  const at::Tensor key = at::arange(num_keys).unsqueeze(0);
  const at::Tensor query = at::arange(num_keys - num_queries, num_keys).unsqueeze(1);
  return (query >= key).logical_and((query - key < window).logical_or(key < sink_tokens));
}

inline double max_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

}  // namespace retrosparse
