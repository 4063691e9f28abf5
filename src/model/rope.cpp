#include "model/rope.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/where.h>

#include <cmath>
#include <numbers>

namespace retrosparse {
namespace {

// theta^(2i / head_dim) for i in [0, head_dim / 2), float32.
at::Tensor position_frequencies(double theta, int64_t head_dim) {
  const at::Tensor exponents = at::arange(0, head_dim, 2, at::kLong).to(at::kFloat) / static_cast<double>(head_dim);
  return at::pow(theta, exponents);
}

at::Tensor llama3_frequencies(const RopeConfig& config, const at::Tensor& frequencies) {
  const double original = static_cast<double>(config.original_max_position_embeddings);
  const double longest_kept = original / config.high_freq_factor;    // wavelengths up to here stay
  const double shortest_scaled = original / config.low_freq_factor;  // from here on they are divided
  const at::Tensor wavelengths = 2 * std::numbers::pi / frequencies;
  const at::Tensor scaled = at::where(wavelengths > shortest_scaled, frequencies / config.factor, frequencies);
  const at::Tensor smooth =
      (original / wavelengths - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
  const at::Tensor blended = (1 - smooth) * scaled / config.factor + smooth * scaled;
  const at::Tensor between = (wavelengths >= longest_kept).logical_and(wavelengths <= shortest_scaled);
  return at::where(between, blended, scaled);
}

// The dimension whose wave turns `rotations` times over the original context (arXiv 2309.00071, section 3.2).
double yarn_dimension(double rotations, int64_t head_dim, const RopeConfig& config) {
  const double original = static_cast<double>(config.original_max_position_embeddings);
  return static_cast<double>(head_dim) * std::log(original / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(config.theta));
}

at::Tensor yarn_frequencies(const RopeConfig& config, int64_t head_dim) {
  const at::Tensor waves = position_frequencies(config.theta, head_dim);
  double low = yarn_dimension(config.beta_fast, head_dim, config);
  double high = yarn_dimension(config.beta_slow, head_dim, config);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(head_dim - 1));
  if (low == high) {
    high += 0.001;  // as transformers does: keeps the ramp finite
  }
  const at::Tensor ramp = at::clamp((at::arange(head_dim / 2, at::kFloat) - low) / (high - low), 0, 1);
  const at::Tensor keep = 1 - ramp;
  const at::Tensor extrapolated = waves.reciprocal(), interpolated = (config.factor * waves).reciprocal();
  return interpolated * (1 - keep) + extrapolated * keep;
}

}  // namespace

Rope::Rope(const RopeConfig& config, int64_t head_dim, at::Device device) {
  switch (config.type) {
    case RopeType::kDefault:
      inverse_frequencies_ = position_frequencies(config.theta, head_dim).reciprocal();
      break;
    case RopeType::kLinear:
      inverse_frequencies_ = position_frequencies(config.theta, head_dim).reciprocal() / config.factor;
      break;
    case RopeType::kLlama3:
      inverse_frequencies_ = llama3_frequencies(config, position_frequencies(config.theta, head_dim).reciprocal());
      break;
    case RopeType::kYarn:
      inverse_frequencies_ = yarn_frequencies(config, head_dim);
      attention_factor_ = config.attention_factor;
      break;
  }
  inverse_frequencies_ = inverse_frequencies_.to(device);
}

RopeTables Rope::tables(int64_t first, int64_t count) const {
  const at::Tensor positions =
      at::arange(first, first + count, inverse_frequencies_.options().dtype(at::kLong)).to(at::kFloat);
  const at::Tensor angles = at::outer(positions, inverse_frequencies_);
  RopeTables tables{angles.cos(), angles.sin()};
  if (attention_factor_ != 1.0) {
    tables.cos.mul_(attention_factor_);
    tables.sin.mul_(attention_factor_);
  }
  return tables;
}

}  // namespace retrosparse
