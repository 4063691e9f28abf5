#pragma once
#include <cstddef>

#include "text/code_points.h"
#include "text/pattern_cursor.h"

namespace retrosparse {

/// What an escape stands for.
struct PatternEscape {
  CodePoints set;
  bool is_literal;  ///< one character, which can be the end of a range
};

/// Reads what follows a backslash at `begin`: \t \n \r \f \v \a \e, \xHH \x{H...} \uHHHH, \s \w \d \h (hexadecimal
/// digits) and their complements, \p{Name} \p{^Name} \P{Name}, punctuation. Error for any other letter or digit.
PatternEscape parse_escape(PatternCursor& cursor, size_t begin, bool in_class);

/// What is in a class, or what is not.
struct PatternClass {
  CodePoints members;
  bool negated = false;

  CodePoints set() const { return negated ? ~members : members; }
};

/// Reads what follows a bracket at `begin`, up to and including the closing one: characters, ranges, escapes, nested
/// classes, intersections [a&&b], POSIX brackets [[:alpha:]] and [[:^alpha:]].
PatternClass parse_class(PatternCursor& cursor, size_t begin);

}  // namespace retrosparse
