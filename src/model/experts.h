#pragma once
#include <ATen/core/Tensor.h>

#include "model/config.h"
#include "model/weights.h"

namespace retrosparse {

/// Mixture of experts for x [T, hidden]: each token goes to its num_experts_per_tok likeliest experts, whose outputs
/// are summed with the softmax weights of the router. Tokens are sorted by expert, so that each expert is one product
/// over its own rows: a loop over slices on the CPU, one grouped product on a GPU in bfloat16.
at::Tensor experts_forward(const at::Tensor& x, const LayerWeights& weights, const ExpertsConfig& config);

/// The dense feed-forward network: down(silu(gate x) * up x), x [T, hidden].
at::Tensor mlp_forward(const at::Tensor& x, const LayerWeights& weights);

}  // namespace retrosparse
