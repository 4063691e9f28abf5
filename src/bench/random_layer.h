#pragma once
#include "bench/layer_shape.h"
#include "ops/decode_attention.h"

namespace retrosparse::bench {

/// bfloat16 standard normal on the current GPU.
at::Tensor normal(at::IntArrayRef sizes);

/// One layer in decode: its KV cache and index cache of `tokens` tokens for each sequence, and one query token.
struct DecodeLayer {
  ops::DecodeInput input;
  ops::DecodeSelectionInput selection;  ///< top_p .9, 64 to 1024 keys

  DecodeLayer(const LayerShape& shape, int64_t batch, int64_t tokens, bool with_values);
};

/// As many layers as it takes to be past the caches, at least 2 and at most 24: each of `bytes` bytes.
int64_t layers_of(double bytes);

}  // namespace retrosparse::bench
