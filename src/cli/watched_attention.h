#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "base/progress.h"
#include "model/attention.h"

namespace retrosparse::cli {

/// Passes everything on to `inner`; shows how far the prefill of a long prompt is, and throws Interrupted between two
/// layers once the user asked to stop, so that not even a prefill of minutes is deaf.
class WatchedAttention : public Attention {
 public:
  /// A prompt that takes one forward pass of at most `chunk` tokens is not worth a progress line.
  WatchedAttention(Attention& inner, int64_t num_layers, int64_t prompt_length, int64_t chunk);

  at::Tensor forward(const AttentionInput& input) override;

 private:
  Attention& inner_;
  int64_t num_layers_, prompt_length_;
  std::optional<Progress> prefill_;
};

}  // namespace retrosparse::cli
