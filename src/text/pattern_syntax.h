#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "text/code_points.h"

namespace retrosparse {

/// A split pattern taken apart: the skeleton of a regular expression (groups, quantifiers, alternatives, lookaround),
/// in which every literal, class and escape is a set of code points. What the sets mean is thereby settled here, with
/// Oniguruma's Unicode version and rules, and not by the engine that runs the skeleton.
struct PatternSyntax {
  struct Element {
    std::string syntax;  ///< PCRE2 syntax, free of anything that matches a character; empty where `set` is used
    int set = -1;        ///< index into `sets`: matches one code point that is in it
  };
  std::vector<Element> elements;
  std::vector<CodePoints> sets;  ///< all different
};

/// Reads a pattern in the syntax that the `tokenizers` package uses (Oniguruma's own, doc/RE of its sources). Error for
/// what is malformed and for constructs that split patterns have no use for: back references, options other than
/// (?i:...) and (?i), properties other than general categories and scripts, letters that equal several others under
/// (?i:...), and the few places where Oniguruma's reading of an expression is a surprise.
PatternSyntax parse_pattern(std::string_view pattern);

/// The pattern that matches exactly this text.
PatternSyntax literal_pattern(std::string_view text);

}  // namespace retrosparse
