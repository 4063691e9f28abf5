#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "model/generate.h"

namespace retrosparse {

/// Tokens a second.
struct GenerationSpeed {
  double prefill = 0, decode = 0;
};

/// One of the models that are compared: generates greedily and says how long it took.
using TimedGeneration = std::function<GenerateTimes(at::IntArrayRef prompt, int64_t new_tokens)>;

/// Lets each model continue the prompt by `new_tokens`, at least 2, `runs` times and in turns, so that whatever else
/// the machine does slows all of them; the medians. The first new token is the prefill's, the others are decoded.
std::vector<GenerationSpeed> generation_speeds(const std::vector<TimedGeneration>& models, at::IntArrayRef prompt,
                                               int64_t new_tokens, int64_t runs);

}  // namespace retrosparse
