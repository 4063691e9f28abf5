#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/corpus.h"
#include "data/special_tokens.h"
#include "text/tokenizer.h"

namespace retrosparse {

/// The tokenizer of examples/nano: byte-level, 4,096 entries, nothing before a text, id 0 between two documents.
inline const Tokenizer& nano_tokenizer() {
  static const Tokenizer tokenizer = Tokenizer::from_folder(std::string(RETROSPARSE_SOURCE_DIR) + "/examples/nano");
  return tokenizer;
}

/// A document whose tokens are base, base + 1, ...; the last `response` of them are a response.
inline std::shared_ptr<const TokenizedDocument> make_document(uint32_t base, int64_t size, int64_t response = 0) {
  TokenizedDocument document;
  for (int64_t i = 0; i < size; ++i) {
    document.ids.push_back(base + static_cast<uint32_t>(i));
  }
  document.response = {size - response, size};
  if (response == 0) {
    document.response = {};
  }
  document.origin = "document at " + std::to_string(base);
  document.digest = std::to_string(base);
  return std::make_shared<const TokenizedDocument>(document);
}

constexpr int64_t kBegin = 1, kEnd = 2;  // no document of a test has these tokens

inline SpecialTokens with_begin() {
  return {{kBegin}, kEnd};
}
inline SpecialTokens without_begin() {
  return {{}, kEnd};
}

}  // namespace retrosparse
