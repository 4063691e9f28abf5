#include "model/config.h"

#include <cmath>

#include "fuzz.h"
#include "scratch_file.h"

/// A config.json. What is accepted is a model that can be.
RETROSPARSE_FUZZ_TARGET(bytes) {
  using namespace retrosparse;
  const ModelConfig config = ModelConfig::read(scratch_file("config.json", as_text(bytes)));
  fuzz_check(config.family != nullptr && !config.architecture.empty(), "the family is known");
  for (const int64_t size :
       {config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers,
        config.num_attention_heads, config.num_key_value_heads, config.head_dim, config.max_position_embeddings}) {
    fuzz_check(size > 0, "sizes are above 0");
  }
  fuzz_check(config.num_attention_heads % config.num_key_value_heads == 0, "heads fall into groups");
  fuzz_check(config.head_dim % 2 == 0, "head_dim is even");
  for (const double value : {config.rms_norm_eps, config.rope.theta, config.rope.factor}) {
    fuzz_check(std::isfinite(value) && value > 0, "eps, theta and factor are above 0");
  }
  if (config.experts) {
    fuzz_check(std::ssize(config.experts->layer_has_experts) == config.num_hidden_layers, "each layer has its kind");
    fuzz_check(config.experts->num_experts_per_tok <= config.experts->num_experts, "there are enough experts");
  }
}
