#pragma once
#include <cstddef>

#include "text/code_points.h"
#include "text/pattern_class.h"
#include "text/pattern_cursor.h"

namespace retrosparse {

/// What a class matches under (?i). Error for one with letters that equal several others in a row, of which a class
/// would then match more than one character.
CodePoints class_ignoring_case(const PatternClass& parsed, const PatternCursor& cursor, size_t begin);

/// What a literal matches under (?i). Error for a letter that equals several others in a row (sharp s), and for one
/// beyond ASCII that with others equals one.
CodePoints literal_ignoring_case(const CodePoints& literal, const PatternCursor& cursor, size_t begin);

/// Whether two ASCII letters have a ligature or a sharp s for an equal when case is ignored.
bool fold_into_one(char32_t a, char32_t b);

}  // namespace retrosparse
