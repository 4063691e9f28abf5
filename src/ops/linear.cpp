#include "ops/linear.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <retrosparse_kernels/one_row_linear.h>

#include <algorithm>
#include <optional>

#include "ops/binding.h"

namespace retrosparse::ops {
namespace {

constexpr int64_t kProductsPerThread = 1 << 16;  ///< a few microseconds; fewer cost more in waking a thread
constexpr int64_t kBlock = 16;  ///< outputs that no thread shares, so that their sums do not depend on the threads

bool is_plain(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.is_contiguous() && !needs_gradient(tensor);
}

bool serves_one_row(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return x.dim() > 0 && weight.dim() == 2 && x.size(-1) == weight.size(1) && x.numel() == weight.size(1) &&
         x.numel() > 0 && is_plain(x) && is_plain(weight) &&
         (!bias.defined() || (is_plain(bias) && bias.dim() == 1 && bias.size(0) == weight.size(0)));
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!serves_one_row(x, weight, bias)) {
    return at::linear(x, weight, bias.defined() ? std::optional(bias) : std::nullopt);
  }
  auto shape = x.sizes().vec();
  shape.back() = weight.size(0);
  at::Tensor y = at::empty(shape, x.options());
  const float* bias_data = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
  const int64_t in_features = weight.size(1);
  const int64_t out_features = weight.size(0), num_blocks = (out_features + kBlock - 1) / kBlock;
  const int64_t blocks_per_thread = std::max<int64_t>(1, kProductsPerThread / (in_features * kBlock));
  at::parallel_for(0, num_blocks, blocks_per_thread, [&](int64_t begin, int64_t end) {
    kernels::cpu::one_row_linear(x.const_data_ptr<float>(), weight.const_data_ptr<float>(), bias_data, in_features,
                                 begin * kBlock, std::min(end * kBlock, out_features), y.mutable_data_ptr<float>());
  });
  return y;
}

}  // namespace retrosparse::ops
