#include "text/pattern_case.h"

#include "text/case_folding.h"

namespace retrosparse {

CodePoints class_ignoring_case(const PatternClass& parsed, const PatternCursor& cursor, size_t begin) {
  if (!parsed.negated && !(parsed.members & unicode::folds_to_several()).empty()) {
    throw cursor.unsupported("a class with letters that stand for several under (?i)", begin);
  }
  return PatternClass{unicode::with_other_cases(parsed.members), parsed.negated}.set();
}

CodePoints literal_ignoring_case(const CodePoints& literal, const PatternCursor& cursor, size_t begin) {
  static const CodePoints several =
      unicode::folds_to_several() | (unicode::parts_of_several() & ~CodePoints{{0, 0x7F}});
  if (!(literal & several).empty()) {
    throw cursor.unsupported("a letter that can stand for several, or with others for one, under (?i)", begin);
  }
  return unicode::with_other_cases(literal);
}

bool fold_into_one(char32_t a, char32_t b) {
  const auto lower = [](char32_t c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; };
  a = lower(a);
  b = lower(b);
  return (a == 's' && (b == 's' || b == 't')) || (a == 'f' && (b == 'f' || b == 'i' || b == 'l'));
}

}  // namespace retrosparse
