#pragma once
// The formula of the attention operations in float64, with the visible keys as a mask.
#include <ATen/ATen.h>

#include <utility>
#include <vector>

#include "ops/attention_plan.h"

namespace retrosparse::ops::testing {

struct MaskedAttention {
  at::Tensor o;    ///< [queries, heads, head_dim]
  at::Tensor lse;  ///< [heads, queries]
};

/// q [queries, heads, head_dim], k and v [keys, key_value_heads, head_dim]; visible bool [heads, queries, keys].
inline MaskedAttention masked_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                        const at::Tensor& visible, double scale) {
  const int64_t repeats = q.size(1) / k.size(1);
  const auto heads_first = [](const at::Tensor& x) { return x.to(at::kCPU, at::kDouble).transpose(0, 1); };
  const at::Tensor keys = heads_first(k).repeat_interleave(repeats, 0);
  const at::Tensor values = heads_first(v).repeat_interleave(repeats, 0);
  const at::Tensor scores =
      (at::matmul(heads_first(q), keys.transpose(1, 2)) * scale).masked_fill(visible.logical_not(), -INFINITY);
  return {at::matmul(scores.softmax(-1), values).transpose(0, 1), scores.logsumexp(-1)};
}

/// bool [heads, queries, keys]: what the modes show to the latest `queries` tokens, kSelected as kLocal.
inline at::Tensor visible_keys(const AttentionPlan& plan, int64_t queries, int64_t keys) {
  const at::Tensor position = at::arange(keys - queries, keys).unsqueeze(1);
  const at::Tensor key = at::arange(keys).unsqueeze(0);
  const at::Tensor causal = key <= position;
  const at::Tensor local = causal & ((position - key < plan.window) | (key < plan.sink_tokens));
  std::vector<at::Tensor> heads;
  for (const kernels::HeadMode mode : plan.head_modes) {
    heads.push_back(mode == kernels::HeadMode::kDense ? causal : local);
  }
  return at::stack(heads);
}

/// |found - expected| / |expected| over everything.
inline double norm_error(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kCPU, at::kDouble) - expected).norm() / expected.norm()).item<double>();
}

}  // namespace retrosparse::ops::testing
