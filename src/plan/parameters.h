#pragma once
#include "model/config.h"

namespace retrosparse {

/// How many parameters a model has, by part. Doubles, so that the products of absurd configurations do not overflow;
/// exact up to 2^53.
struct ParameterCounts {
  double embedding = 0;       ///< vocab_size x hidden_size
  double lm_head = 0;         ///< the same again; 0 where it is tied to the embedding
  double attention = 0;       ///< q, k, v and output projections with their biases
  double mlp = 0;             ///< gate, up and down projections of the layers without experts, with their biases
  double experts = 0;         ///< of all experts of all layers
  double active_experts = 0;  ///< of the num_experts_per_tok that one token uses
  double router = 0;
  double norms = 0;

  double total() const { return embedding + lm_head + attention + mlp + experts + router + norms; }

  /// What one token uses, the embedding counted whole as is usual.
  double active() const { return total() - experts + active_experts; }

  /// Entries of the matrices that every token is multiplied with, the head not among them: it may run on fewer tokens.
  double active_in_layers() const { return attention + mlp + active_experts + router; }
};

ParameterCounts count_parameters(const ModelConfig& config);

}  // namespace retrosparse
