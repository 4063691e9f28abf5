#pragma once
#include <string_view>

#include "text/pattern_matcher.h"

namespace retrosparse {

/// What becomes of the matches of a split pattern (the `behavior` of tokenizer.json).
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// Cuts a text into pieces along the matches of a pattern.
class Splitter {
 public:
  /// `invert`: what the pattern does not match counts as a match and the other way round.
  Splitter(const PatternSyntax& pattern, SplitBehavior behavior, bool invert = false)
      : matcher_(pattern), behavior_(behavior), invert_(invert) {}

  /// Calls emit(std::string_view) for every piece that is not empty, from left to right. `text` is valid UTF-8. Error:
  /// as PatternMatcher::Cursor::next.
  template <typename Emit>
  void split(std::string_view text, PatternMatcher::Scratch& scratch, Emit&& emit) const {
    PatternMatcher::Cursor cursor(matcher_, text, scratch);
    PatternMatcher::Segment piece{}, segment{};
    const auto finish = [&] {
      if (piece.begin != piece.end && !(behavior_ == SplitBehavior::kRemoved && piece.is_match)) {
        emit(text.substr(piece.begin, piece.end - piece.begin));
      }
    };
    bool first = true;
    bool was_match = false;  // the segment before
    while (cursor.next(segment)) {
      segment.is_match ^= invert_;
      if (!first && joins(was_match, segment.is_match)) {
        piece.end = segment.end;
      } else {
        finish();
        piece = segment;
      }
      first = false;
      was_match = segment.is_match;
    }
    finish();
  }

 private:
  /// Whether a segment becomes part of the piece before it.
  bool joins(bool was_match, bool is_match) const {
    switch (behavior_) {
      case SplitBehavior::kMergedWithPrevious:
        return is_match && !was_match;
      case SplitBehavior::kMergedWithNext:
        return was_match && !is_match;
      case SplitBehavior::kContiguous:
        return was_match == is_match;
      default:
        return false;
    }
  }

  PatternMatcher matcher_;
  SplitBehavior behavior_;
  bool invert_;
};

}  // namespace retrosparse
