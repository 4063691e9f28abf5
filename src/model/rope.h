#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "model/config.h"

namespace retrosparse {

/// cos and sin of every position's rotation angles, float32 [T, head_dim / 2], already multiplied by the attention
/// factor of the scaling (yarn).
struct RopeTables {
  at::Tensor cos, sin;
};

/// Rotary position embedding (Su et al., arXiv 2104.09864) with the frequency scalings that checkpoints use.
class Rope {
 public:
  /// Inverse frequencies for `config.type`: default; linear (divide by factor); llama3 (Llama 3.1: low frequencies
  /// divided, a smooth band between); yarn (Peng et al., arXiv 2309.00071). Computed in float32 in the order that
  /// transformers uses: at position 32,768 the last bit of a frequency moves an angle by 1e-3.
  Rope(const RopeConfig& config, int64_t head_dim, at::Device device);

  /// Tables for the positions [first, first + count).
  RopeTables tables(int64_t first, int64_t count) const;

  const at::Tensor& inverse_frequencies() const { return inverse_frequencies_; }  ///< float32 [head_dim / 2]

 private:
  at::Tensor inverse_frequencies_;
  double attention_factor_ = 1.0;
};

}  // namespace retrosparse
