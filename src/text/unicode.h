#pragma once
#include <optional>
#include <string_view>

#include "text/code_points.h"

/// Sets of code points as the libraries behind the `tokenizers` package have them: Oniguruma 6.9.10 (Unicode 16.0) for
/// split patterns, Rust's standard library and regex crate for the rest. Every set is computed once and then shared.
namespace retrosparse::unicode {

/// General_Category by short or long name ("L", "Lu", "Letter", "Uppercase_Letter"; case, '_', '-' and ' ' do not
/// count, UAX #44 5.9.3), or a script by short or long name ("Han",
/// "Hiragana", "hira"); none for any other name.
std::optional<CodePoints> property(std::string_view name);

/// What a POSIX bracket means, by its name ("alpha", "space"); none for any other name.
std::optional<CodePoints> posix_class(std::string_view name);

/// White_Space: what `\s` means.
const CodePoints& white_space();

/// Alphabetic, marks, decimal digits and connector punctuation (UTS #18 annex C): what `\w` means in a class [\w].
const CodePoints& word();

/// The same and a few superscripts and fractions of Latin-1: what `\w` means to Oniguruma outside of classes.
const CodePoints& lone_word();

/// Word characters around an added token that asks for `single_word` (UTS #18 annex C, joiners included).
const CodePoints& token_word();

/// What Rust calls numeric (N), for the pre-tokenizer Digits; a few digits newer than those of split patterns included.
const CodePoints& digits();

}  // namespace retrosparse::unicode
