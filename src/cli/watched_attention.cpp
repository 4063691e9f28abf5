#include "cli/watched_attention.h"

#include "base/interrupt.h"

namespace retrosparse::cli {

WatchedAttention::WatchedAttention(Attention& inner, int64_t num_layers, int64_t prompt_length, int64_t chunk)
    : inner_(inner), num_layers_(num_layers), prompt_length_(prompt_length) {
  if (prompt_length > chunk) {
    prefill_.emplace("prefill", prompt_length, "tokens");
  }
}

at::Tensor WatchedAttention::forward(const AttentionInput& input) {
  InterruptGuard::check();
  at::Tensor out = inner_.forward(input);
  if (prefill_ && input.layer == num_layers_ - 1) {
    prefill_->advance(input.q.size(0));
    if (input.first_position + input.q.size(0) >= prompt_length_) {
      prefill_.reset();
    }
  }
  return out;
}

}  // namespace retrosparse::cli
