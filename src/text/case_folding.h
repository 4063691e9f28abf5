#pragma once
#include "text/code_points.h"

/// What equals what when a split pattern ignores case (CaseFolding.txt of Unicode 16.0, without Turkic).
namespace retrosparse::unicode {

/// `set` and whatever one code point of it is equal to.
CodePoints with_other_cases(const CodePoints& set);

/// The code points that equal several others in a row: sharp s equals "ss".
const CodePoints& folds_to_several();

/// The code points that these several consist of, the letter s among them.
const CodePoints& parts_of_several();

}  // namespace retrosparse::unicode
