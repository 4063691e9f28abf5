#include "model/attend.h"

#include <ATen/ops/_scaled_dot_product_efficient_attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/logaddexp.h>
#include <limits>

#include <optional>
#include <utility>

#include "ops/few_query_attention.h"

namespace retrosparse {
namespace {

// The fused kernels know batch and heads only; a KV group becomes a batch entry whose G query heads share one key
// head by a stride of 0, so that no key is copied.
at::Tensor queries_by_group(const at::Tensor& q, int64_t num_groups) {  // [T, H, D] -> [K, G, T, D]
  return q.unflatten(1, {num_groups, q.size(1) / num_groups}).permute({1, 2, 0, 3});
}

at::Tensor keys_by_group(const at::Tensor& k, int64_t group_size) {  // [S, K, D] -> [K, G, S, D]
  return k.permute({1, 0, 2}).unsqueeze(1).expand({k.size(1), group_size, k.size(0), k.size(2)});
}

// The memory-efficient CUDA kernel wants rows of the bias to start at multiples of 16 bytes.
at::Tensor aligned_bias(const at::Tensor& bias, at::IntArrayRef sizes) {
  constexpr int64_t kAlignment = 8;
  const int64_t columns = bias.size(1);
  const int64_t padded = (columns + kAlignment - 1) / kAlignment * kAlignment;
  return at::constant_pad_nd(bias, {0, padded - columns}).narrow(1, 0, columns).expand(sizes);
}

constexpr int64_t kFlashHeadDim = 256;  // FlashAttention-2's largest; the memory-efficient kernel has no such bound

PartialAttention run(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale, bool causal,
                     const at::Tensor& bias) {
  constexpr int64_t kMultiple = 8;  // of head_dim, for the CUDA kernels; zeros behind it change no score
  const int64_t head_dim = q.size(2), surplus = q.is_cpu() ? 0 : (kMultiple - head_dim % kMultiple) % kMultiple;
  if (surplus > 0) {
    const auto padded = [&](const at::Tensor& tensor) { return at::constant_pad_nd(tensor, {0, surplus}); };
    const PartialAttention result = run(padded(q), padded(k), padded(v), scale, causal, bias);
    return {result.out.narrow(2, 0, head_dim), result.lse};
  }
  const int64_t num_tokens = q.size(0), num_groups = k.size(1), group_size = q.size(1) / num_groups;
  const at::Tensor queries = queries_by_group(q, num_groups);
  const at::Tensor keys = keys_by_group(k, group_size), values = keys_by_group(v, group_size);
  at::Tensor out, lse;  // [K, G, T, D], [K, G, T]
  if (q.is_cpu()) {
    std::optional<at::Tensor> mask;
    if (bias.defined()) {
      mask = bias.unsqueeze(0).unsqueeze(0);
    }
    std::tie(out, lse) =
        at::_scaled_dot_product_flash_attention_for_cpu(queries, keys, values, 0.0, causal, mask, scale);
  } else if (!bias.defined() && q.scalar_type() != at::kFloat && head_dim <= kFlashHeadDim) {
    auto result = at::_scaled_dot_product_flash_attention(queries, keys, values, 0.0, causal, false, scale);
    out = std::get<0>(result);
    lse = std::get<1>(result);
  } else {
    std::optional<at::Tensor> mask;
    if (bias.defined()) {
      mask = aligned_bias(bias, {num_groups, group_size, num_tokens, k.size(0)});
    }
    auto result = at::_scaled_dot_product_efficient_attention(queries, keys, values, mask, true, 0.0, causal, scale);
    out = std::get<0>(result);
    lse = std::get<1>(result).narrow(-1, 0, num_tokens);  // the kernel pads the rows to a multiple of 32
  }
  return {out.permute({2, 0, 1, 3}).reshape({num_tokens, q.size(1), q.size(2)}),
          lse.permute({2, 0, 1}).reshape({num_tokens, q.size(1)})};
}

}  // namespace

PartialAttention attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                        const at::Tensor& bias) {
  if (!bias.defined() && ops::serves_few_queries(q, k, v)) {
    auto [out, lse] = ops::few_query_attention(q, k, v, scale);
    return {std::move(out), std::move(lse)};
  }
  return run(q, k, v, scale, /*causal=*/false, bias);
}

PartialAttention attend_causal(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  return run(q, k, v, scale, /*causal=*/q.size(0) > 1, {});
}

PartialAttention merge(const PartialAttention& a, const PartialAttention& b) {
  const at::Tensor lse = at::logaddexp(a.lse, b.lse);
  // A row without keys in either part, -inf, is 0 and not the difference of two infinities.
  const at::Tensor whole = lse.masked_fill(lse.eq(-std::numeric_limits<double>::infinity()), 0);
  const at::Tensor share_a = (a.lse - whole).exp().unsqueeze(-1), share_b = (b.lse - whole).exp().unsqueeze(-1);
  const at::Tensor out = a.out * share_a + b.out * share_b;  // float32: the shares are
  return {out.to(a.out.scalar_type()), lse};
}

}  // namespace retrosparse
