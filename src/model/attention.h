#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace retrosparse {

/// What a layer hands to its attention: T new tokens at positions [first_position, first_position + T) after
/// S - T cached ones, S = first_position + T. H query heads, K key/value heads, H a multiple of K; query head h reads
/// key/value head h / (H / K).
struct AttentionInput {
  int64_t layer;
  int64_t first_position;
  double scale;           ///< of the scores, head_dim^-1/2
  at::Tensor q_pre_rope;  ///< [T, H, D], after q/k norm where the model has it
  at::Tensor k_pre_rope;  ///< [T, K, D], the new tokens'
  at::Tensor q;           ///< [T, H, D], after RoPE
  at::Tensor k;           ///< [S, K, D], after RoPE, cached and new
  at::Tensor v;           ///< [S, K, D]

  /// The new tokens [begin, begin + count) alone, with the keys and values up to the last of them. Views.
  AttentionInput rows(int64_t begin, int64_t count) const {
    const int64_t num_keys = first_position + begin + count;
    return {layer,
            first_position + begin,
            scale,
            q_pre_rope.narrow(0, begin, count),
            k_pre_rope.narrow(0, begin, count),
            q.narrow(0, begin, count),
            k.narrow(0, 0, num_keys),
            v.narrow(0, 0, num_keys)};
  }
};

/// The one seam of the forward pass: dense, planned and sparse attention are implementations of it.
class Attention {
 public:
  virtual ~Attention() = default;

  /// [T, H, D], the dtype of q. Called once for each layer, in order, for each chunk of tokens.
  virtual at::Tensor forward(const AttentionInput& input) = 0;
};

/// Sees what each layer's attention sees, before it runs. Profiling and training are observers, not forks of the model.
class AttentionObserver {
 public:
  virtual ~AttentionObserver() = default;
  virtual void observe(const AttentionInput& input) = 0;
};

}  // namespace retrosparse
