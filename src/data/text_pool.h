#pragma once
#include <cstdint>
#include <vector>

#include "base/random.h"
#include "data/corpus.h"
#include "data/sample.h"
#include "data/special_tokens.h"

namespace retrosparse {

/// Running text to take pieces of any length from.
class TextPool {
 public:
  /// Error: there is no token.
  TextPool(Documents documents, SpecialTokens special);

  /// `length` tokens from a random place, without labels. A document is chosen by its size; where it is long enough the
  /// tokens are consecutive ones from anywhere in it, else it is taken from its beginning and followed by the documents
  /// behind it (the first behind the last one), each with its special tokens. No token is taken twice. Error: there are
  /// not that many tokens (says how many there are).
  Sample take(int64_t length, Random& random) const;

  /// The tokens of all documents, with the special tokens between them: the most that take() can give.
  int64_t num_tokens() const { return ends_.back(); }

  const SpecialTokens& special() const { return special_; }
  const Documents& documents() const { return documents_; }

 private:
  Documents documents_;
  SpecialTokens special_;
  std::vector<int64_t> ends_;  // ends_[i]: tokens of the documents up to and with i, special tokens included
};

}  // namespace retrosparse
