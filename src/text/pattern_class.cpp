#include "text/pattern_class.h"

#include <optional>
#include <string_view>
#include <utility>

#include "text/unicode.h"

namespace retrosparse {

namespace {

CodePoints complement_if(bool negated, const CodePoints& set) {
  return negated ? ~set : set;
}

/// Behind "\p" or "\P": {Name} or {^Name}.
CodePoints parse_property(PatternCursor& cursor, bool negated, size_t begin) {
  const bool braces = cursor.take("{");
  negated ^= cursor.take("^");
  const std::optional<std::string_view> name = cursor.take_until('}');
  if (!braces || !name) {
    throw cursor.malformed("a property without {name}", begin);
  }
  const std::optional<CodePoints> set = unicode::property(*name);
  if (!set) {
    throw cursor.unsupported("this property", begin);
  }
  return complement_if(negated, *set);
}

/// Behind "\x" or "\u": xHH (below 80; a byte above would be part of a character), x{H...}, uHHHH.
char32_t parse_hexadecimal(PatternCursor& cursor, char32_t kind, size_t begin) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  const bool braces = kind == 'x' && cursor.take("{");
  const size_t longest = braces ? 8 : kind == 'x' ? 2 : 4;
  char32_t value = 0;
  size_t digits = 0;
  for (; digits < longest && !cursor.at_end(); ++digits) {
    const char digit = cursor.peek();
    const size_t number = kDigits.find(digit >= 'A' && digit <= 'F' ? static_cast<char>(digit - 'A' + 'a') : digit);
    if (number == std::string_view::npos) {
      break;
    }
    value = value << 4 | static_cast<char32_t>(number);
    cursor.take_code_point();
  }
  const bool complete = braces ? digits > 0 && cursor.take("}") : digits == longest;
  if (!complete || value > CodePoints::kLast || (value >= 0xD800 && value < 0xE000)) {
    throw cursor.malformed("a character code", begin);
  }
  if (kind == 'x' && !braces && value >= 0x80) {
    throw cursor.unsupported("a byte that is no character", begin);
  }
  return value;
}

PatternEscape parse_class_character(PatternCursor& cursor, size_t begin) {
  if (cursor.at_end() || cursor.peek() == '[' || cursor.peek() == ']') {
    throw cursor.malformed("a range without an end", begin);
  }
  if (cursor.take("\\")) {
    return parse_escape(cursor, begin, true);
  }
  return {CodePoints::single(cursor.take_code_point()), true};
}

/// One character, one escape, or a range a-z. A '-' stands for itself only first or last in a class.
CodePoints parse_range(PatternCursor& cursor, bool first, size_t begin) {
  if (cursor.peek() == '-' && !first && !cursor.sees("-]")) {
    throw cursor.unsupported("a '-' that is neither first, last, nor inside a range", begin);
  }
  const PatternEscape lower = parse_class_character(cursor, begin);
  if (cursor.peek() != '-' || cursor.sees("-]")) {
    return lower.set;
  }
  cursor.take("-");
  const PatternEscape upper = parse_class_character(cursor, begin);
  if (!lower.is_literal || !upper.is_literal) {
    throw cursor.unsupported("a range that begins or ends with a class", begin);
  }
  const char32_t from = lower.set.ranges().front().first, to = upper.set.ranges().front().first;
  if (from > to) {
    throw cursor.malformed("a range that ends before it begins", begin);
  }
  return {{from, to}};
}

/// Behind "[:": name:] or ^name:].
CodePoints parse_posix_bracket(PatternCursor& cursor, size_t begin) {
  const bool negated = cursor.take("^");
  const std::optional<std::string_view> name = cursor.take_until(':');
  const std::optional<CodePoints> set = name ? unicode::posix_class(*name) : std::nullopt;
  if (!set || !cursor.take("]")) {
    throw cursor.unsupported("this POSIX bracket", begin);
  }
  return complement_if(negated, *set);
}

PatternClass parse_class(PatternCursor& cursor, size_t begin, int depth);

/// The union of everything up to "&&" or "]".
CodePoints parse_operand(PatternCursor& cursor, size_t begin, int depth) {
  CodePoints result;
  if (cursor.peek() == ']') {
    throw cursor.unsupported("an unescaped ']' at the beginning of a class", begin);
  }
  for (bool first = true; !cursor.at_end() && cursor.peek() != ']' && !cursor.sees("&&"); first = false) {
    const size_t item = cursor.offset();
    result = result | (cursor.take("[:")  ? parse_posix_bracket(cursor, item)
                       : cursor.take("[") ? parse_class(cursor, item, depth + 1).set()
                                          : parse_range(cursor, first, item));
  }
  return result;
}

PatternClass parse_class(PatternCursor& cursor, size_t begin, int depth) {
  static constexpr int kDeepest = 16;
  if (depth > kDeepest) {
    throw cursor.unsupported("so many nested classes", begin);
  }
  const bool negated = cursor.take("^");
  CodePoints result = parse_operand(cursor, begin, depth);
  while (cursor.take("&&")) {
    result = result & parse_operand(cursor, begin, depth);
  }
  if (!cursor.take("]")) {
    throw cursor.malformed("'[' without ']'", begin);
  }
  return {std::move(result), negated};
}

}  // namespace

PatternEscape parse_escape(PatternCursor& cursor, size_t begin, bool in_class) {
  static constexpr std::pair<char32_t, char32_t> kControls[] = {{'t', '\t'}, {'n', '\n'}, {'r', '\r'}, {'f', '\f'},
                                                                {'v', '\v'}, {'a', '\a'}, {'e', 0x1B}};
  static const CodePoints decimal = *unicode::property("Nd");
  static const CodePoints hexadecimal = {{'0', '9'}, {'a', 'f'}, {'A', 'F'}};
  static const CodePoints ascii_alphanumeric = {{'0', '9'}, {'a', 'z'}, {'A', 'Z'}};
  if (cursor.at_end()) {
    throw cursor.malformed("a '\\' at the end", begin);
  }
  const char32_t letter = cursor.take_code_point();
  for (const auto& [name, code_point] : kControls) {
    if (letter == name) {
      return {CodePoints::single(code_point), true};
    }
  }
  switch (letter) {
    case 's':
    case 'S':
      return {complement_if(letter == 'S', unicode::white_space()), false};
    case 'w':
    case 'W':
      return {complement_if(letter == 'W', in_class ? unicode::word() : unicode::lone_word()), false};
    case 'd':
    case 'D':
      return {complement_if(letter == 'D', decimal), false};
    case 'h':
    case 'H':
      return {complement_if(letter == 'H', hexadecimal), false};
    case 'p':
    case 'P':
      return {parse_property(cursor, letter == 'P', begin), false};
    case 'x':
    case 'u':
      return {CodePoints::single(parse_hexadecimal(cursor, letter, begin)), true};
    default:
      if (ascii_alphanumeric.contains(letter)) {
        throw cursor.unsupported("this escape", begin);
      }
      return {CodePoints::single(letter), true};
  }
}

PatternClass parse_class(PatternCursor& cursor, size_t begin) {
  return parse_class(cursor, begin, 0);
}

}  // namespace retrosparse
