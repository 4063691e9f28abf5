#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace retrosparse::cli {

/// The text of tokens that come one by one, in whole characters: the bytes of a token that ends within a character wait
/// for the rest. All pieces together are what decoding all ids at once gives.
class TextStream {
 public:
  explicit TextStream(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}

  /// What can be shown now that this token has come; often empty for a part of a character. A token that the tokenizer
  /// does not have, as a padded vocabulary allows, has no text; a warning says so.
  std::string push(int64_t id);

  /// What is left, the beginning of a character as U+FFFD.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  std::vector<int64_t> waiting_;
  bool begun_ = false;  // some text was given
};

}  // namespace retrosparse::cli
