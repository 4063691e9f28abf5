#pragma once
#include <ATen/core/Tensor.h>

namespace retrosparse::ops {

/// x weight^T + bias, as at::linear, of any dtype, on any device and with gradients. One float32 row on the CPU, as in
/// decoding, takes a kernel of our own, since a matrix library's general path costs more than reading the weights.
///   x [..., in_features], weight [out_features, in_features], bias [out_features] or undefined
///   returns [..., out_features]
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

}  // namespace retrosparse::ops
