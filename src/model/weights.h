#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "model/config.h"

namespace retrosparse {

/// y = x W^T + b. weight [out, in], bias [out] or undefined.
struct Linear {
  at::Tensor weight, bias;
  at::Tensor operator()(const at::Tensor& x) const;
};

/// One decoder layer. Matrices that multiply the same input are stored as one: fewer, larger products.
struct LayerWeights {
  at::Tensor input_norm, post_attention_norm;  ///< [hidden]
  Linear qkv;                                  ///< [(H + 2K) * D, hidden]: queries, keys, values
  at::Tensor q_norm, k_norm;                   ///< [D], or undefined
  Linear output;                               ///< [hidden, H * D]
  Linear gate_up, down;                        ///< [2 * I, hidden], [hidden, I]; undefined in a layer with experts
  at::Tensor router;                           ///< [E, hidden], or undefined
  at::Tensor expert_gate_up, expert_down;      ///< [E, 2 * I, hidden], [E, hidden, I], or undefined
};

/// "float32", "bfloat16" or "float16", the dtypes that models run in, as config.json names them.
std::string config_dtype_name(at::ScalarType dtype);

/// All weights, of one dtype on one device.
struct ModelWeights {
  at::Tensor embed_tokens;  ///< [vocab, hidden]
  at::Tensor final_norm;    ///< [hidden]
  at::Tensor lm_head;       ///< [vocab, hidden]; the same tensor as embed_tokens where they are tied
  std::vector<LayerWeights> layers;

  at::Device device() const { return embed_tokens.device(); }
  at::ScalarType dtype() const { return embed_tokens.scalar_type(); }
};

/// A tensor of the checkpoint and its place in the weights: `view` has the checkpoint's shape and shares the memory
/// of ModelWeights, so that copying into it loads and reading from it exports.
struct TensorBinding {
  std::string name;
  at::Tensor view;
};

/// How a checkpoint stores a layer's experts: three tensors for each, or two for all of them (transformers 5 may).
enum class ExpertLayout { kSeparate, kFused };

/// Every tensor that a checkpoint of this configuration has to hold; lm_head only where it is not tied.
std::vector<TensorBinding> bind_tensors(const ModelConfig& config, const ModelWeights& weights,
                                        ExpertLayout layout = ExpertLayout::kSeparate);

/// The weights by the names and in the dtypes in which `source` stores them, to be written as a checkpoint. Error: as
/// TensorMatch::check, where source does not fit the configuration.
std::map<std::string, at::Tensor> tensors_as_stored(const Checkpoint& source, const ModelConfig& config,
                                                    const ModelWeights& weights);

/// Uninitialised weights of the right shapes.
ModelWeights allocate_weights(const ModelConfig& config, at::Device device, at::ScalarType dtype);

/// Reads a checkpoint, converting to `dtype`. Stored tensors must be floating-point numbers of 16 bits or more. Throws
/// Error naming every missing tensor, or the first one of wrong shape or dtype; tensors that are there but not needed,
/// or in a shard although the index does not list them there, are logged as a warning. Tied embeddings may be stored
/// under either name. Throws Interrupted where an InterruptGuard lives and the user asks to stop.
ModelWeights load_weights(const Checkpoint& checkpoint, const ModelConfig& config, at::Device device,
                          at::ScalarType dtype);

}  // namespace retrosparse
