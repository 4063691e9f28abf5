#pragma once
#include <cstddef>
#include <initializer_list>
#include <vector>

namespace retrosparse {

/// A set of Unicode code points.
class CodePoints {
 public:
  /// From `first` to `last`, both included.
  struct Range {
    char32_t first, last;
    bool operator==(const Range&) const = default;
  };
  static constexpr char32_t kLast = 0x10FFFF;

  CodePoints() = default;
  CodePoints(std::initializer_list<Range> ranges) : CodePoints(std::vector<Range>(ranges)) {}
  explicit CodePoints(std::vector<Range> ranges);  ///< in any order, overlapping or not

  static CodePoints single(char32_t code_point) { return {{code_point, code_point}}; }

  bool contains(char32_t code_point) const;
  bool empty() const { return ranges_.empty(); }

  /// Sorted, with at least one code point missing between any two.
  const std::vector<Range>& ranges() const { return ranges_; }

  CodePoints operator|(const CodePoints& other) const;
  CodePoints operator&(const CodePoints& other) const;
  CodePoints operator~() const;
  bool operator==(const CodePoints&) const = default;

 private:
  std::vector<Range> ranges_;
};

}  // namespace retrosparse
