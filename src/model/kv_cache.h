#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace retrosparse {

/// Keys (after RoPE) and values of the tokens seen so far, per layer, token-major [capacity, K, D] so that a new token
/// is one contiguous row. Grows by doubling; `reserve` avoids the copies where the final length is known.
class KvCache {
 public:
  /// Views of a layer's tokens, [length, K, D] each. Valid until the next append to that layer.
  struct Tokens {
    at::Tensor keys, values;
  };

  KvCache(int64_t num_layers, int64_t num_key_value_heads, int64_t head_dim, at::TensorOptions options);

  void reserve(int64_t num_tokens);

  /// Adds the keys and values [T, K, D] of T new tokens to `layer` and returns all that it now holds.
  Tokens append(int64_t layer, const at::Tensor& keys, const at::Tensor& values);

  /// Tokens that the first layer holds: between forward passes, the length of the sequence so far.
  int64_t length() const { return layers_.front().length; }

  /// Forgets the tokens from position `length` on, in every layer (to try another continuation).
  void truncate(int64_t length);

  uint64_t bytes() const;  ///< memory allocated, all layers

 private:
  struct Layer {
    at::Tensor keys, values;
    int64_t length = 0;
  };
  void grow(Layer& layer, int64_t capacity) const;

  int64_t num_key_value_heads_, head_dim_;
  at::TensorOptions options_;
  std::vector<Layer> layers_;
};

}  // namespace retrosparse
