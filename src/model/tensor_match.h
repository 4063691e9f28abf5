#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "model/config.h"
#include "model/weights.h"

namespace retrosparse {

/// How the tensors that a configuration needs and those that a checkpoint stores fit together, by the headers alone.
struct TensorMatch {
  std::map<std::string, std::string>
      stored_as;                     ///< needed name -> name in the checkpoint, another for a tied embedding
  std::vector<std::string> missing;  ///< needed and not there
  std::vector<std::string> surplus;  ///< there and of no use
  std::vector<Error> wrong;          ///< for each tensor of wrong shape, or quantised
  ExpertLayout layout = ExpertLayout::kSeparate;
  bool lacks_output_head = false;  ///< is among the missing

  size_t num_needed() const { return stored_as.size() + missing.size(); }

  /// Error naming the first of the missing tensors, or the first wrong one; `checkpoint` is named in it.
  void check(const Checkpoint& checkpoint) const;
};

TensorMatch match_tensors(const Checkpoint& checkpoint, const ModelConfig& config);

/// Whether the embeddings are tied in this checkpoint. A config.json that says so is not believed where both tensors
/// are stored with different values: then each is used, with a warning, as transformers 5 does. Reads values only where
/// both are stored.
bool embeddings_are_tied(const Checkpoint& checkpoint, const ModelConfig& config);

/// "a, b, c, d, e and 7 more", for messages.
std::string first_few(const std::vector<std::string>& names);

}  // namespace retrosparse
