#pragma once
#include "model/config.h"
#include "model/family.h"

namespace retrosparse {

/// A small model with different numbers wherever two could be mistaken for each other.
inline ModelConfig small_config() {
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.family = Family::of_architecture(config.architecture);
  config.vocab_size = 97;
  config.hidden_size = 40;
  config.intermediate_size = 56;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 6;
  config.num_key_value_heads = 2;
  config.head_dim = 10;
  config.max_position_embeddings = 512;
  return config;
}

}  // namespace retrosparse
