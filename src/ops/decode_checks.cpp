#include "ops/decode_checks.h"

#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <bit>

#include "ops/binding.h"

namespace retrosparse::ops {

void check_decode(const DecodeInput& input, const AttentionPlan& plan, std::string_view operation) {
  const at::Tensor& q = input.q;
  if (!q.defined() || q.dim() != 4 || q.size(1) < 1 || q.size(1) > 8) {
    reject(operation, "q", "[batch, query_tokens (1 to 8), num_heads, head_dim]", describe(q));
  }
  kernel_dtype(q, operation, "q");
  require_device(q, q.device(), operation, "q");
  const at::Tensor& k = input.k;
  for (const auto& [name, tensor] : {std::pair("k", k), std::pair("v", input.v)}) {
    if (!tensor.defined() || tensor.dim() != 4 || tensor.sizes() != k.sizes() || tensor.strides() != k.strides() ||
        tensor.size(3) != q.size(3) || tensor.stride(3) != 1 || tensor.scalar_type() != q.scalar_type()) {
      reject(operation, name,
             fmt::format("{} [sequences or pages, tokens, heads, {}], both of the same strides, the last 1",
                         c10::toString(q.scalar_type()), q.size(3)),
             describe(tensor));
    }
    require_device(tensor, q.device(), operation, name);
  }
  if (k.size(2) == 0 || q.size(2) % k.size(2) != 0) {
    reject(operation, "k", fmt::format("a number of heads that divides {}", q.size(2)), describe(k));
  }
  require_tensor(input.key_counts, at::kInt, {q.size(0)}, q.device(), operation, "key_counts");
  int64_t capacity = k.size(1);
  if (input.page_table.defined()) {
    const at::Tensor& table = input.page_table;
    if (table.dim() != 2 || table.size(0) != q.size(0) || table.scalar_type() != at::kInt || table.stride(1) != 1) {
      reject(operation, "page_table", fmt::format("Int [{}, pages]", q.size(0)), describe(table));
    }
    if (!std::has_single_bit(static_cast<uint64_t>(k.size(1)))) {
      reject(operation, "k", "pages of a power of two tokens", describe(k));
    }
    require_device(table, q.device(), operation, "page_table");
    capacity = table.size(1) * k.size(1);
  } else if (k.size(0) != q.size(0)) {
    reject(operation, "k", fmt::format("{} sequences", q.size(0)), describe(k));
  }
  if (input.max_keys < q.size(1) || input.max_keys > capacity) {
    reject(operation, "max_keys", fmt::format("{} to {}, what the cache holds", q.size(1), capacity),
           fmt::format("{}", input.max_keys));
  }
  if (static_cast<int64_t>(plan.head_modes.size()) != q.size(2) || plan.window < 1 || plan.sink_tokens < 0) {
    reject(operation, "plan", fmt::format("{} heads, a window of 1 or more and 0 or more sinks", q.size(2)),
           fmt::format("{}, {} and {}", plan.head_modes.size(), plan.window, plan.sink_tokens));
  }
  if (!(input.softmax_scale > 0)) {
    reject(operation, "softmax_scale", "more than 0", fmt::format("{}", input.softmax_scale));
  }
}

void reserve(at::Tensor& buffer, size_t bytes, size_t zeroed, const at::Tensor& like) {
  if (!buffer.defined() || buffer.device() != like.device() || buffer.numel() < static_cast<int64_t>(bytes)) {
    buffer = at::empty({static_cast<int64_t>(bytes)}, like.options().dtype(at::kByte));
    buffer.narrow(0, 0, static_cast<int64_t>(zeroed)).zero_();
  }
}

}  // namespace retrosparse::ops
