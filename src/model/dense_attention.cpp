#include "model/dense_attention.h"

#include "ops/prefill_attention.h"

namespace retrosparse {

PartialAttention attend_dense(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  const int64_t num_new = q.size(0), num_cached = k.size(0) - num_new;
  if (num_new == 1) {
    return attend(q, k, v, scale);
  }
  if (ops::serves_prefill(q)) {
    const ops::AttentionPlan all_dense{std::vector(static_cast<size_t>(q.size(1)), kernels::HeadMode::kDense)};
    const ops::AttentionOutput result = ops::prefill_attention({q, k, v, scale, {}}, all_dense);
    return {result.o, result.lse.t()};
  }
  // Every new token sees all cached ones; only the square of the new ones needs the causal mask.
  const PartialAttention diagonal =
      attend_causal(q, k.narrow(0, num_cached, num_new), v.narrow(0, num_cached, num_new), scale);
  if (num_cached == 0) {
    return diagonal;
  }
  return merge(attend(q, k.narrow(0, 0, num_cached), v.narrow(0, 0, num_cached), scale), diagonal);
}

at::Tensor DenseAttention::forward(const AttentionInput& input) {
  return attend_dense(input.q, input.k, input.v, input.scale).out;
}

}  // namespace retrosparse
