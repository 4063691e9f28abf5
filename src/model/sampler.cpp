#include "model/sampler.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/multinomial.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/where.h>
#include <fmt/format.h>

#include "base/error.h"

namespace retrosparse {

Sampler::Sampler(const SamplingOptions& options)
    : options_(options), generator_(at::make_generator<at::CPUGeneratorImpl>(options.seed)) {
  if (!(options.temperature >= 0)) {
    throw Error("temperature").expected("0 (greedy) or above").found(fmt::format("{}", options.temperature));
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    throw Error("top-p").expected("above 0, at most 1").found(fmt::format("{}", options.top_p));
  }
}

std::optional<int64_t> Sampler::pick(const at::Tensor& logits) {
  if (options_.temperature == 0) {
    // One answer from the device, and so one wait for it.
    const auto token = at::where(logits.isfinite().all(), logits.argmax(), -1).item<int64_t>();
    return token < 0 ? std::nullopt : std::optional(token);
  }
  at::Tensor scores = logits.to(at::kCPU, at::kDouble);
  if (!scores.isfinite().all().item<bool>()) {
    return std::nullopt;
  }
  scores = (scores - scores.max()) / options_.temperature;  // at most 0, so that no temperature overflows
  auto [probabilities, tokens] = at::softmax(scores, 0).sort(/*dim=*/0, /*descending=*/true);
  // A token stays when those before it hold less than top_p; the first always does.
  const at::Tensor before = probabilities.cumsum(0) - probabilities;
  probabilities.masked_fill_(before.ge(options_.top_p), 0);
  return tokens[at::multinomial(probabilities, 1, false, generator_).squeeze(0)].item<int64_t>();
}

}  // namespace retrosparse
