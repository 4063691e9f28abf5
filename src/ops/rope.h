#pragma once
#include <ATen/core/Tensor.h>

namespace retrosparse::ops {

/// Rotary position embedding in the rotate-half layout; the formula is that of <retrosparse_kernels/rope.h>.
///   x         [tokens, heads, head_dim] or [batch, tokens, heads, head_dim], float32, float16 or bfloat16, head_dim
///             even, on the CPU or a GPU; any strides between tokens and heads are read in place
///   cos, sin  [tokens, head_dim / 2] float32 on the device of x, the same for every batch; constants to autograd
///   returns   shape and dtype of x, contiguous
/// Differentiable in x. Throws std::invalid_argument if the arguments do not fit together.
at::Tensor apply_rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

}  // namespace retrosparse::ops
