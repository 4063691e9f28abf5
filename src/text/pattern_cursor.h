#pragma once
#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "text/utf8.h"

namespace retrosparse {

/// A place in a split pattern, and the complaints about it. The pattern is valid UTF-8.
class PatternCursor {
 public:
  explicit PatternCursor(std::string_view pattern) : pattern_(pattern) {}

  size_t offset() const { return offset_; }
  void set_offset(size_t offset) { offset_ = offset; }

  bool at_end() const { return offset_ == pattern_.size(); }
  char peek() const { return at_end() ? '\0' : pattern_[offset_]; }
  bool sees(std::string_view expected) const { return pattern_.substr(offset_).starts_with(expected); }

  /// Moves behind `expected` if it comes next; returns whether it did.
  bool take(std::string_view expected) {
    const bool taken = sees(expected);
    offset_ += taken ? expected.size() : 0;
    return taken;
  }

  /// Not at the end.
  char32_t take_code_point() { return next_code_point(pattern_, offset_); }

  /// Everything up to `end`, which is taken too; nothing if it does not come.
  std::optional<std::string_view> take_until(char end) {
    const size_t length = pattern_.substr(offset_).find(end);
    if (length == std::string_view::npos) {
      return std::nullopt;
    }
    const std::string_view text = pattern_.substr(offset_, length);
    offset_ += length + 1;
    return text;
  }

  Error malformed(std::string_view what, size_t offset) const {
    return problem("malformed split pattern", what, offset);
  }
  Error unsupported(std::string_view what, size_t offset) const {
    return problem("not supported in a split pattern", what, offset);
  }

 private:
  Error problem(std::string kind, std::string_view what, size_t offset) const {
    return Error(std::move(kind)).found(fmt::format("{} at byte {} of '{}'", what, offset, pattern_));
  }

  std::string_view pattern_;
  size_t offset_ = 0;
};

}  // namespace retrosparse
