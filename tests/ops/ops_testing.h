#pragma once
// What the tests of operations share.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/cuda.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace retrosparse::ops::testing {

/// The CPU, and the first GPU where this build and machine have one.
inline std::vector<at::Device> devices() {
  std::vector<at::Device> result = {at::kCPU};
  if (torch::cuda::is_available()) {
    result.emplace_back(at::kCUDA, 0);
  }
  return result;
}

/// max |found - expected| / max |expected|, in float64; NaN if any element is.
inline double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor exact = expected.to(at::kCPU, at::kDouble);
  return ((found.to(at::kCPU, at::kDouble) - exact).abs().max() / exact.abs().max()).item<double>();
}

/// The share of elements that are not equal.
inline double share_different(const at::Tensor& found, const at::Tensor& expected) {
  return found.ne(expected).to(at::kDouble).mean().item<double>();
}

inline at::Tensor with_gradient(const at::Tensor& tensor) {
  return tensor.detach().clone().requires_grad_();
}

/// d sum(output * weights) / d inputs
inline std::vector<at::Tensor> gradients(const at::Tensor& output, const at::Tensor& weights,
                                         const std::vector<at::Tensor>& inputs) {
  return torch::autograd::grad({(output * weights).sum()}, inputs);
}

/// Expects std::invalid_argument from call(), with `text` in its message.
template <class Call>
void expect_rejected(const Call& call, const std::string& text) {
  try {
    call();
    FAIL() << "accepted; should have been rejected with: " << text;
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  }
}

}  // namespace retrosparse::ops::testing
