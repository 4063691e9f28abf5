#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace retrosparse {

/// What makes the spellings of tokens one text: stages, one behind the other, and a join of what the last one leaves.
struct Decoder {
  enum class Stage {
    kByteLevel,  ///< characters that stand for bytes to these bytes; a token with any other character stays as it is
    kFuse,       ///< all into one
  };
  std::vector<Stage> stages;
  std::string separator;  ///< between what the last stage leaves

  /// The text of some tokens. Bytes that are not UTF-8 become U+FFFD.
  std::string decode(std::vector<std::string> pieces) const;
};

}  // namespace retrosparse
