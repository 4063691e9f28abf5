#include "text/pre_tokenizer.h"

namespace retrosparse {

size_t PreTokenizer::Scratch::capacity() const {
  size_t bytes = 0;
  for (const PatternMatcher::Scratch& matcher : matchers_) {
    bytes += matcher.capacity();
  }
  for (const std::string& text : prefixed_) {
    bytes += text.capacity();
  }
  return bytes;
}

}  // namespace retrosparse
