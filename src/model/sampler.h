#pragma once
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace retrosparse {

struct SamplingOptions {
  double temperature = 0;  ///< 0: greedy
  double top_p = 1;        ///< sample from the likeliest tokens that together hold this probability, in (0, 1]
  uint64_t seed = 0;
};

/// Picks the next token. The same seed, model and prompt give the same text.
class Sampler {
 public:
  /// Throws Error for a negative temperature or a top_p outside (0, 1].
  explicit Sampler(const SamplingOptions& options);

  /// The next token from scores [vocab], any device. None where they are not all finite numbers.
  std::optional<int64_t> pick(const at::Tensor& logits);

 private:
  SamplingOptions options_;
  at::Generator generator_;
};

}  // namespace retrosparse
