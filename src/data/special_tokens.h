#pragma once
#include <cstdint>
#include <filesystem>
#include <vector>

#include "text/tokenizer.h"

namespace retrosparse {

/// The tokens that a model saw around texts when it was trained.
struct SpecialTokens {
  std::vector<int64_t> begin_of_text;  ///< what the tokenizer puts before a text: nothing, or its BOS token
  int64_t end_of_text = 0;             ///< what stands between two documents

  /// As tokenizer.json and config.json in a model's folder have it. End of text is the token spelt <|endoftext|>,
  /// <|end_of_text|> or </s> where the vocabulary has one (a chat model's eos_token_id ends a turn, not a document),
  /// else the first eos_token_id of config.json. Error: none of these.
  static SpecialTokens of_model(const std::filesystem::path& folder, const Tokenizer& tokenizer);
};

}  // namespace retrosparse
