#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/code_points.h"
#include "text/utf8.h"

namespace retrosparse {

/// Sorts all code points into at most 256 classes, so that two of one class are in the same of some given sets. A
/// regular expression over those sets can then run over one byte per code point, where every set is a plain byte class.
class CharacterClasses {
 public:
  /// Error if more than 256 classes would be needed.
  explicit CharacterClasses(const std::vector<CodePoints>& sets);

  /// The classes whose code points are in sets[set].
  const std::vector<uint8_t>& classes_in(size_t set) const { return classes_in_[set]; }

  uint8_t class_of(char32_t code_point) const {
    return pages_[page_of_[code_point / kPageSize]][code_point % kPageSize];
  }

  /// Writes one class per code point of valid UTF-8 and returns their number. `classes` has room for text.size().
  size_t classify(std::string_view text, uint8_t* classes) const;

 private:
  static constexpr size_t kPageSize = 256;
  using Page = std::array<uint8_t, kPageSize>;

  std::vector<std::vector<uint8_t>> classes_in_;
  std::vector<uint16_t> page_of_;  // of code_point / kPageSize; equal pages are shared
  std::vector<Page> pages_;
};

}  // namespace retrosparse
