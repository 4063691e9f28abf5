#include "ops/few_query_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <retrosparse_kernels/few_query_attention.h>

#include <algorithm>

#include "ops/binding.h"

namespace retrosparse::ops {
namespace {

constexpr std::string_view kOperation = "few_query_attention";
constexpr int64_t kFewRows = 8;
constexpr int64_t kKeysPerPart = 1024;  ///< fewer cost more in merging than a thread brings

void check_arguments(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const auto check = [](const at::Tensor& tensor, std::string_view name, bool fits, const std::string& expected) {
    if (!fits) {
      reject(kOperation, name, expected, describe(tensor));
    }
  };
  const auto is_plain = [](const at::Tensor& tensor) {
    return tensor.defined() && tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.dim() == 3 &&
           tensor.stride(2) == 1;
  };
  check(q, "q", is_plain(q), "Float [T, H, D] on cpu, D contiguous");
  check(k, "k", is_plain(k) && k.size(0) > 0 && k.size(2) == q.size(2) && q.size(1) % k.size(1) == 0,
        fmt::format("Float [S, K, {}] on cpu, D contiguous, S > 0, K a divisor of {}", q.size(2), q.size(1)));
  check(v, "v", is_plain(v) && v.sizes() == k.sizes(), "the sizes of k, Float on cpu, D contiguous");
}

}  // namespace

bool serves_few_queries(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return q.is_cpu() && q.scalar_type() == at::kFloat && q.size(0) <= kFewRows && !needs_gradient(q) &&
         !needs_gradient(k) && !needs_gradient(v);
}

std::pair<at::Tensor, at::Tensor> few_query_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                      double scale) {
  check_arguments(q, k, v);
  const kernels::FewQueryAttentionParams params{
      .q = q.const_data_ptr<float>(),
      .k = k.const_data_ptr<float>(),
      .v = v.const_data_ptr<float>(),
      .num_queries = q.size(0),
      .num_keys = k.size(0),
      .num_heads = q.size(1),
      .num_key_value_heads = k.size(1),
      .head_dim = q.size(2),
      .q_token_stride = q.stride(0),
      .q_head_stride = q.stride(1),
      .k_token_stride = k.stride(0),
      .k_head_stride = k.stride(1),
      .v_token_stride = v.stride(0),
      .v_head_stride = v.stride(1),
      .scale = static_cast<float>(scale),
  };
  const int64_t num_groups = params.num_key_value_heads;
  const int64_t num_parts = (params.num_keys + kKeysPerPart - 1) / kKeysPerPart;
  const int64_t part_size = kernels::cpu::few_query_attention_part_size(params);
  at::Tensor parts = at::empty({num_groups, num_parts, part_size}, q.options());
  at::Tensor out = at::empty(q.sizes(), q.options()), lse = at::empty({q.size(0), q.size(1)}, q.options());
  float* parts_data = parts.mutable_data_ptr<float>();
  at::parallel_for(0, num_groups * num_parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first_key = task % num_parts * kKeysPerPart;
      kernels::cpu::few_query_attention_part(params, task / num_parts, first_key,
                                             std::min(first_key + kKeysPerPart, params.num_keys),
                                             parts_data + task * part_size);
    }
  });
  for (int64_t group = 0; group < num_groups; ++group) {
    kernels::cpu::few_query_attention_merge(params, group, parts_data + group * num_parts * part_size, num_parts,
                                            out.mutable_data_ptr<float>(), lse.mutable_data_ptr<float>());
  }
  return {out, lse};
}

}  // namespace retrosparse::ops
