#include "train/adamw.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"

namespace retrosparse {
namespace {

void take(const std::map<std::string, at::Tensor>& state, const std::string& name, const at::Tensor& into) {
  const auto found = state.find(name);
  if (found == state.end()) {
    throw Error("missing in the optimizer's state").tensor(name);
  }
  if (found->second.sizes() != into.sizes()) {
    throw Error("wrong shape in the optimizer's state").tensor(name);
  }
  into.copy_(found->second);
}

}  // namespace

AdamW::AdamW(std::vector<at::Tensor> parameters, AdamWOptions options)
    : parameters_(std::move(parameters)), options_(options) {
  const at::NoGradGuard no_grad;
  for (const at::Tensor& parameter : parameters_) {
    parameter.requires_grad_(true);
    exp_avg_.push_back(at::zeros_like(parameter));
    exp_avg_sq_.push_back(at::zeros_like(parameter));
    steps_.push_back(at::zeros({}, parameter.options().dtype(at::kFloat).requires_grad(false)));
  }
}

double AdamW::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  at::Tensor squares = at::zeros({}, at::kDouble);
  for (const at::Tensor& parameter : parameters_) {
    gradients.push_back(parameter.grad().defined() ? parameter.grad() : at::zeros_like(parameter));
    squares = squares + gradients.back().to(at::kDouble).square().sum().cpu();
  }
  const double norm = std::sqrt(squares.item<double>());
  if (!std::isfinite(norm)) {
    return norm;
  }
  if (norm > options_.max_grad_norm) {
    for (at::Tensor& gradient : gradients) {
      gradient.mul_(options_.max_grad_norm / norm);
    }
  }
  for (at::Tensor& count : steps_) {
    count.add_(1);  // the fused update reads the number of this step but does not count
  }
  at::_fused_adamw_(parameters_, gradients, exp_avg_, exp_avg_sq_, {}, steps_, learning_rate, options_.beta1,
                    options_.beta2, options_.weight_decay, options_.eps, /*amsgrad=*/false, /*maximize=*/false);
  for (at::Tensor& parameter : parameters_) {
    parameter.mutable_grad() = at::Tensor();
  }
  return norm;
}

std::map<std::string, at::Tensor> AdamW::state() const {
  std::map<std::string, at::Tensor> state;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    state[fmt::format("exp_avg.{}", i)] = exp_avg_[i];
    state[fmt::format("exp_avg_sq.{}", i)] = exp_avg_sq_[i];
    state[fmt::format("step.{}", i)] = steps_[i];
  }
  return state;
}

void AdamW::load_state(const std::map<std::string, at::Tensor>& state) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    take(state, fmt::format("exp_avg.{}", i), exp_avg_[i]);
    take(state, fmt::format("exp_avg_sq.{}", i), exp_avg_sq_[i]);
    take(state, fmt::format("step.{}", i), steps_[i]);
  }
}

}  // namespace retrosparse
