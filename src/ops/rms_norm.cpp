#include "ops/rms_norm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <retrosparse_kernels/rms_norm.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "ops/binding.h"

namespace retrosparse::ops {
namespace {

constexpr std::string_view kOperation = "rms_norm";
constexpr int64_t kElementsPerTask = 32768;  ///< below this a thread costs more than it brings

void check_arguments(const at::Tensor& x, const at::Tensor& weight) {
  if (!x.defined() || x.dim() < 1) {
    reject(kOperation, "x", "[..., dim]", describe(x));
  }
  if (!weight.defined() || weight.dim() != 1 || weight.size(0) != x.size(-1) ||
      weight.scalar_type() != x.scalar_type()) {
    reject(kOperation, "weight", fmt::format("{} [{}]", c10::toString(x.scalar_type()), x.size(-1)), describe(weight));
  }
  require_device(x, x.device(), kOperation, "x");
  require_device(weight, x.device(), kOperation, "weight");
}

at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, double eps) {
  at::Tensor out = at::empty(x.sizes(), x.options().memory_format(at::MemoryFormat::Contiguous));
  if (out.numel() == 0) {
    return out;
  }
  at::Tensor rows = x.reshape({-1, x.size(-1)});
  if (rows.stride(1) != 1) {
    rows = rows.contiguous();
  }
  const at::Tensor dense_weight = weight.contiguous();
  const kernels::RmsNormParams params{
      .x = rows.const_data_ptr(),
      .weight = dense_weight.const_data_ptr(),
      .out = out.mutable_data_ptr(),
      .rows = rows.size(0),
      .dim = rows.size(1),
      .x_row_stride = rows.stride(0),
      .out_row_stride = rows.size(1),
      .eps = static_cast<float>(eps),
      .dtype = kernel_dtype(x, kOperation, "x"),
  };
#ifdef RETROSPARSE_WITH_CUDA
  if (x.is_cuda()) {
    launch_on(x.device(), kOperation, [&](cudaStream_t stream) { return kernels::sm90::rms_norm(params, stream); });
    return out;
  }
#endif
  at::parallel_for(0, params.rows, std::max<int64_t>(1, kElementsPerTask / params.dim),
                   [&](int64_t begin, int64_t end) { kernels::reference::rms_norm(params, begin, end); });
  return out;
}

/// With n = x / rms and g = grad * weight:
///   d x = (g - n * mean(g * n)) / rms,   d weight = sum over rows of grad * n
struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            double eps) {
    context->save_for_backward({x, weight});
    context->saved_data["eps"] = eps;
    return ops::forward(x, weight, eps);
  }

  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context,
                                               torch::autograd::tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor x = saved[0].to(at::kFloat);
    const at::Tensor gradient = gradients[0].to(at::kFloat);
    const at::Tensor inverse_rms = (x.square().mean(-1, true) + context->saved_data["eps"].toDouble()).rsqrt();
    const at::Tensor normalised = x * inverse_rms;
    at::Tensor x_gradient;
    at::Tensor weight_gradient;
    if (context->needs_input_grad(0)) {
      const at::Tensor weighted = gradient * saved[1].to(at::kFloat);
      x_gradient =
          ((weighted - normalised * (weighted * normalised).mean(-1, true)) * inverse_rms).to(saved[0].scalar_type());
    }
    if (context->needs_input_grad(1)) {
      weight_gradient = (gradient * normalised).reshape({-1, x.size(-1)}).sum(0).to(saved[1].scalar_type());
    }
    return {x_gradient, weight_gradient, at::Tensor()};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  check_arguments(x, weight);
  if (needs_gradient(x) || needs_gradient(weight)) {
    return RmsNorm::apply(x, weight, eps);
  }
  return forward(x, weight, eps);
}

}  // namespace retrosparse::ops
