#pragma once
#include <ATen/core/Tensor.h>

namespace retrosparse::ops {

/// Root-mean-square normalisation over the last dimension; the formula and its roundings are those of
/// <retrosparse_kernels/rms_norm.h>.
///   x       [..., dim] float32, float16 or bfloat16, on the CPU or a GPU; rows at an even distance are read in place,
///           any other layout is copied first
///   weight  [dim], dtype and device of x
///   returns [..., dim] contiguous, dtype of x
/// Differentiable in x and weight; the gradients are computed in float32 from x and weight alone. Throws
/// std::invalid_argument if the arguments do not fit together.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

}  // namespace retrosparse::ops
