#include "ops/rope.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <retrosparse_kernels/rope.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "ops/binding.h"

namespace retrosparse::ops {
namespace {

constexpr std::string_view kOperation = "apply_rope";
constexpr int64_t kElementsPerTask = 32768;  ///< below this a thread costs more than it brings

void check_table(const at::Tensor& table, const at::Tensor& x, std::string_view name) {
  const int64_t tokens = x.size(-3);
  const int64_t half = x.size(-1) / 2;
  if (!table.defined() || table.dim() != 2 || table.size(0) != tokens || table.size(1) != half ||
      table.scalar_type() != at::kFloat) {
    reject(kOperation, name, fmt::format("Float [{}, {}]", tokens, half), describe(table));
  }
  require_device(table, x.device(), kOperation, name);
}

void check_arguments(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  if (!x.defined() || (x.dim() != 3 && x.dim() != 4) || x.size(-1) % 2 != 0) {
    reject(kOperation, "x", "[tokens, heads, head_dim] or [batch, tokens, heads, head_dim], head_dim even",
           describe(x));
  }
  require_device(x, x.device(), kOperation, "x");
  check_table(cos, x, "cos");
  check_table(sin, x, "sin");
}

/// cos or sin for [batch * tokens] rows.
at::Tensor per_row(const at::Tensor& table, int64_t batch) {
  return batch == 1 ? table.contiguous() : table.repeat({batch, 1});
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  at::Tensor out = at::empty(x.sizes(), x.options().memory_format(at::MemoryFormat::Contiguous));
  if (out.numel() == 0) {
    return out;
  }
  at::Tensor tokens = x.reshape({-1, x.size(-2), x.size(-1)});
  if (tokens.stride(2) != 1) {
    tokens = tokens.contiguous();
  }
  const int64_t batch = x.dim() == 4 ? x.size(0) : 1;
  const at::Tensor row_cos = per_row(cos, batch);
  const at::Tensor row_sin = per_row(sin, batch);
  const int64_t elements_per_token = tokens.size(1) * tokens.size(2);
  const kernels::RopeParams params{
      .x = tokens.const_data_ptr(),
      .cos = row_cos.const_data_ptr<float>(),
      .sin = row_sin.const_data_ptr<float>(),
      .out = out.mutable_data_ptr(),
      .tokens = tokens.size(0),
      .heads = static_cast<int32_t>(tokens.size(1)),
      .head_dim = static_cast<int32_t>(tokens.size(2)),
      .x_token_stride = tokens.stride(0),
      .x_head_stride = tokens.stride(1),
      .out_token_stride = elements_per_token,
      .out_head_stride = tokens.size(2),
      .inverse = inverse,
      .dtype = kernel_dtype(x, kOperation, "x"),
  };
#ifdef RETROSPARSE_WITH_CUDA
  if (x.is_cuda()) {
    launch_on(x.device(), kOperation, [&](cudaStream_t stream) { return kernels::sm90::rope(params, stream); });
    return out;
  }
#endif
  at::parallel_for(0, params.tokens, std::max<int64_t>(1, kElementsPerTask / elements_per_token),
                   [&](int64_t begin, int64_t end) { kernels::reference::rope(params, begin, end); });
  return out;
}

/// A rotation is orthogonal up to the factor in cos and sin: its gradient is the rotation back.
struct Rope : torch::autograd::Function<Rope> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& cos,
                            const at::Tensor& sin) {
    context->save_for_backward({cos, sin});
    return rotate(x, cos, sin, /*inverse=*/false);
  }

  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context,
                                               torch::autograd::tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    return {rotate(gradients[0], saved[0], saved[1], /*inverse=*/true), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor apply_rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  check_arguments(x, cos, sin);
  return needs_gradient(x) ? Rope::apply(x, cos, sin) : rotate(x, cos, sin, /*inverse=*/false);
}

}  // namespace retrosparse::ops
