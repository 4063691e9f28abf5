#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "model/model.h"
#include "model/sampler.h"

namespace retrosparse {

struct GenerateOptions {
  int64_t max_new_tokens = 64;
  int64_t prefill_chunk = 4096;  ///< prompt tokens per forward pass; bounds the memory beside the cache
  /// The prompt's tokens from this position on, 1 at least, are read one at a time, as new tokens are: what a sparse
  /// model's rows give, which differ from those of its prefill. No value: the whole prompt is prefilled.
  std::optional<int64_t> decode_from;
  SamplingOptions sampling;
  std::vector<int64_t> stop_ids;                ///< generation ends after one of these, which is not returned
  Attention* attention = nullptr;               ///< null: dense
  std::function<bool(int64_t token)> on_token;  ///< false ends generation
  /// Scores of the prompt's tokens, float32 [n, vocab], a few rows a call and in order.
  std::function<void(int64_t first_position, const at::Tensor& logits)> on_prompt_logits;
};

/// What a generation cost, for the reader of a log. Prompt tokens that are decoded count as decode.
struct GenerateTimes {
  double prefill_seconds = 0, decode_seconds = 0;
};

/// Continues a prompt of at least one token: chunked prefill into a KV cache, then one token at a time. Throws Error
/// for an empty prompt, for a decode_from outside of it, and, naming the position, where scores that it picks from or
/// hands out are not finite numbers.
std::vector<int64_t> generate(const Model& model, at::IntArrayRef prompt, const GenerateOptions& options,
                              GenerateTimes* times = nullptr);

}  // namespace retrosparse
