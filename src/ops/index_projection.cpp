#include "ops/index_projection.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <retrosparse_kernels/index_projection.h>

#include <algorithm>

#include "ops/binding.h"

namespace retrosparse::ops {
namespace {

constexpr std::string_view kOperation = "index_projection";

void run(const at::Tensor& x_any, const at::Tensor& weights_any, const std::vector<int32_t>& heads, at::Tensor& out,
         const IndexGate* gate, at::Tensor* gates) {
  if (!x_any.defined() || x_any.dim() != 3 || x_any.scalar_type() != at::kBFloat16) {
    reject(kOperation, "x", "BFloat16 [tokens, heads, head_dim]", describe(x_any));
  }
  const int64_t tokens = x_any.size(0);
  const int64_t dim = x_any.size(2);
  const auto count = static_cast<int64_t>(heads.size());
  require_device(x_any, x_any.device(), kOperation, "x");
  require_tensor(weights_any, at::kBFloat16, {count, kernels::kIndexDim, dim}, x_any.device(), kOperation, "weights");
  require_tensor(out, out.defined() ? out.scalar_type() : at::kFloat, {tokens, count, kernels::kIndexDim},
                 x_any.device(), kOperation, "out");
  if (out.stride(2) != 1) {
    reject(kOperation, "out", "a contiguous last dimension", fmt::format("a stride of {}", out.stride(2)));
  }
  if (std::any_of(heads.begin(), heads.end(), [&](int32_t head) { return head < 0 || head >= x_any.size(1); })) {
    reject(kOperation, "heads", fmt::format("0 to {}", x_any.size(1) - 1), fmt::format("{}", fmt::join(heads, ", ")));
  }
  if (out.numel() == 0) {
    return;
  }
  const bool in_place = x_any.stride(2) == 1 && x_any.stride(0) % 8 == 0 && x_any.stride(1) % 8 == 0;
  const at::Tensor x = in_place ? x_any : x_any.contiguous();
  const at::Tensor weights = weights_any.contiguous();
  at::Tensor gate_weights;
  at::Tensor gate_biases;
  kernels::IndexProjectionParams params;
  if (gate != nullptr) {
    require_tensor(gate->weights, at::kBFloat16, {count, dim}, x.device(), kOperation, "gate.weights");
    require_tensor(gate->biases, at::kFloat, {count}, x.device(), kOperation, "gate.biases");
    require_tensor(*gates, at::kFloat, {count, tokens}, x.device(), kOperation, "gates");
    if (gates->stride(1) != 1) {
      reject(kOperation, "gates", "a contiguous last dimension", fmt::format("a stride of {}", gates->stride(1)));
    }
    gate_weights = gate->weights.contiguous();
    gate_biases = gate->biases.contiguous();
    params.gate_weights = gate_weights.const_data_ptr();
    params.gate_biases = gate_biases.const_data_ptr<float>();
    params.gates = gates->mutable_data_ptr<float>();
    params.gates_head_stride = gates->stride(0);
  }
  params.x = x.const_data_ptr();
  params.weights = weights.const_data_ptr();
  params.out = out.mutable_data_ptr();
  params.heads = heads.data();
  params.x_token_stride = x.stride(0);
  params.x_head_stride = x.stride(1);
  params.out_token_stride = out.stride(0);
  params.out_head_stride = out.stride(1);
  params.tokens = tokens;
  params.num_heads = static_cast<int32_t>(count);
  params.head_dim = static_cast<int32_t>(dim);
  params.out_dtype = kernel_dtype(out, kOperation, "out");
#ifdef RETROSPARSE_WITH_CUDA
  if (x.is_cuda()) {
    launch_on(x.device(), kOperation,
              [&](cudaStream_t stream) { return kernels::sm90::index_projection(params, stream); });
    return;
  }
#endif
  kernels::reference::index_projection(params);
}

}  // namespace

void index_projection(const at::Tensor& x, const at::Tensor& weights, const std::vector<int32_t>& heads,
                      at::Tensor& out) {
  run(x, weights, heads, out, nullptr, nullptr);
}

void index_projection(const at::Tensor& x, const at::Tensor& weights, const std::vector<int32_t>& heads,
                      at::Tensor& out, const IndexGate& gate, at::Tensor& gates) {
  run(x, weights, heads, out, &gate, &gates);
}

}  // namespace retrosparse::ops
