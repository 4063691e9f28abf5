#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "text/character_classes.h"
#include "text/pattern_syntax.h"

namespace retrosparse {

/// A compiled pattern (PCRE2, with its JIT compiler where there is one). Immutable: any number of threads can match at
/// once, each with a Scratch of its own.
class PatternMatcher {
 public:
  /// Error: the engine refuses the pattern, e.g. for lookbehind of unbounded length.
  explicit PatternMatcher(const PatternSyntax& syntax);

  /// What one search at a time needs; may be used again, for any pattern and text.
  class Scratch {
   public:
    Scratch();
    ~Scratch();
    Scratch(Scratch&&) noexcept;
    size_t capacity() const { return classes_.capacity(); }  ///< bytes that are kept from search to search

   private:
    friend class PatternMatcher;
    struct Engine;  // PCRE2's match data, context and JIT stack
    std::unique_ptr<Engine> engine_;
    std::vector<uint8_t> classes_;
  };

  /// A part of a text, in bytes: one match, or what lies between two.
  struct Segment {
    size_t begin, end;
    bool is_match;
  };

  /// Takes a text apart from left to right; the segments cover it without gaps. A match may be empty, but not right
  /// behind another match.
  class Cursor {
   public:
    /// `text` is valid UTF-8. All arguments outlive the cursor, and the scratch serves no other one meanwhile.
    Cursor(const PatternMatcher& matcher, std::string_view text, Scratch& scratch);

    /// False at the end. Error: the engine gives up (a pattern that backtracks without end).
    bool next(Segment& segment);

   private:
    bool find(size_t& begin, size_t& end);   // the next match, in code points
    size_t byte_offset(size_t code_points);  // of a place not before the last one asked for

    const PatternMatcher& matcher_;
    std::string_view text_;
    Scratch& scratch_;
    size_t length_;           // of the text, in code points
    size_t search_from_ = 0;  // in code points
    size_t last_match_end_ = std::string_view::npos;
    size_t known_code_points_ = 0, known_bytes_ = 0;  // the last place of byte_offset
    size_t done_ = 0;                                 // bytes of the text that have been handed out
    bool match_waits_ = false;                        // behind the segment that was handed out last
    Segment match_{};
  };

 private:
  CharacterClasses classes_;
  std::shared_ptr<const void> code_;  // pcre2_code
};

}  // namespace retrosparse
