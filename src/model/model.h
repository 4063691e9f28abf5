#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "model/attention.h"
#include "model/config.h"
#include "model/kv_cache.h"
#include "model/rope.h"
#include "model/weights.h"

namespace retrosparse {

/// How one forward pass runs. Nothing set: the whole sequence at once, without a cache.
struct ForwardOptions {
  KvCache* cache = nullptr;                   ///< the tokens follow those that it holds
  Attention* attention = nullptr;             ///< null: dense
  std::vector<AttentionObserver*> observers;  ///< called for each layer before its attention
};

/// A decoder-only transformer over one sequence.
class Model {
 public:
  Model(ModelConfig config, ModelWeights weights);

  /// Loads the checkpoint in `folder` (config.json and safetensors).
  static Model load(const std::filesystem::path& folder, at::Device device, at::ScalarType dtype);

  /// Final hidden states (after the last norm) [T, hidden] of T >= 1 token ids. Throws Error for an id outside the
  /// vocabulary.
  at::Tensor forward(at::IntArrayRef ids, const ForwardOptions& options = {}) const;

  /// Runs `ids` chunk by chunk through options.cache (needed), so that memory beside the cache does not grow with the
  /// length, and hands each chunk's hidden states to `sink` with the position of its first token.
  void prefill(at::IntArrayRef ids, int64_t chunk, const ForwardOptions& options,
               const std::function<void(int64_t first_position, const at::Tensor& hidden)>& sink) const;

  /// Scores of every vocabulary entry, float32 [T, vocab], of hidden states [T, hidden].
  at::Tensor logits(const at::Tensor& hidden) const;

  KvCache make_cache() const;

  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }
  at::Device device() const { return weights_.device(); }

 private:
  at::Tensor attention_block(int64_t layer, const at::Tensor& x, const RopeTables& rope, int64_t first_position,
                             const ForwardOptions& options, Attention& attention) const;

  ModelConfig config_;
  ModelWeights weights_;
  Rope rope_;
};

}  // namespace retrosparse
