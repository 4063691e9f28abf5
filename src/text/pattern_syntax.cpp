#include "text/pattern_syntax.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <tuple>
#include <utility>

#include "text/pattern_case.h"
#include "text/pattern_class.h"
#include "text/pattern_cursor.h"
#include "text/unicode.h"

namespace retrosparse {

namespace {

/// The index of `set` in `sets`, added if it is new.
int intern(CodePoints set, std::vector<CodePoints>& sets) {
  const auto found = std::find(sets.begin(), sets.end(), set);
  if (found != sets.end()) {
    return static_cast<int>(found - sets.begin());
  }
  sets.push_back(std::move(set));
  return static_cast<int>(sets.size()) - 1;
}

/// Recursive descent over the pattern; one method per rule of the grammar.
class Parser {
 public:
  explicit Parser(std::string_view pattern) : cursor_(pattern) {}

  PatternSyntax parse() {
    parse_alternatives();
    if (!cursor_.at_end()) {
      throw cursor_.malformed("')' without '('", cursor_.offset());
    }
    return std::move(result_);
  }

 private:
  struct Interval {
    int least;
    std::optional<int> most;
  };

  void parse_alternatives() {
    parse_branch();
    while (cursor_.take("|")) {
      emit("|");
      parse_branch();
    }
  }

  void parse_branch() {
    last_literal_ = 0;
    while (!cursor_.at_end() && cursor_.peek() != '|' && cursor_.peek() != ')') {
      const size_t first_element = result_.elements.size();
      const bool repeatable = parse_atom();
      parse_quantifier(first_element, repeatable);
    }
  }

  /// Returns whether a quantifier may follow.
  bool parse_atom() {
    const size_t begin = cursor_.offset();
    const char32_t literal_before = std::exchange(last_literal_, 0);
    if (cursor_.take("(?i)")) {
      parse_rest_ignoring_case(begin);
      return false;
    }
    if (cursor_.take("(")) {
      return parse_group(begin);
    }
    if (cursor_.take("[")) {
      emit(cased(parse_class(cursor_, begin), begin));
      return true;
    }
    if (cursor_.take(".")) {
      emit(~CodePoints::single('\n'));
      return true;
    }
    if (parse_anchor()) {
      return false;
    }
    if (cursor_.take("\\")) {
      PatternEscape escape = parse_escape(cursor_, begin, false);
      emit(escape.is_literal ? cased_literal(std::move(escape.set), begin) : std::move(escape.set));
      return true;
    }
    if (sees_quantifier()) {
      throw cursor_.malformed("a quantifier with nothing to repeat", begin);
    }
    const char32_t literal = cursor_.take_code_point();
    if (ignore_case_ && fold_into_one(literal_before, literal)) {
      throw cursor_.unsupported("letters that one character can stand for under (?i)", begin);
    }
    last_literal_ = literal;
    emit(cased_literal(CodePoints::single(literal), begin));
    return true;
  }

  /// Behind "(?i)": up to the end of the group around it everything ignores case, as if it stood in one more group.
  void parse_rest_ignoring_case(size_t begin) {
    enter_group(begin);
    const bool outer_case = std::exchange(ignore_case_, true);
    emit("(?:");
    parse_alternatives();
    emit(")");
    ignore_case_ = outer_case;
    --depth_;
  }

  void enter_group(size_t begin) {
    static constexpr int kDeepest = 64;
    if (++depth_ > kDeepest) {
      throw cursor_.unsupported("so many nested groups", begin);
    }
  }

  /// Behind "(". Returns whether a quantifier may follow: not behind lookaround.
  bool parse_group(size_t begin) {
    static constexpr std::pair<std::string_view, bool> kOpenings[] = {
        {"?:", true}, {"?>", true}, {"?i:", true}, {"?=", false}, {"?!", false}, {"?<=", false}, {"?<!", false}};
    enter_group(begin);
    std::string_view opening = "?:";  // a capture is of no use here
    bool repeatable = true;
    if (cursor_.peek() == '?' && !take_group_name()) {
      const auto* found = std::find_if(std::begin(kOpenings), std::end(kOpenings),
                                       [&](const auto& candidate) { return cursor_.take(candidate.first); });
      if (found == std::end(kOpenings)) {
        throw cursor_.unsupported("this kind of group", begin);
      }
      std::tie(opening, repeatable) = *found;
    }
    const bool outer_case = std::exchange(ignore_case_, ignore_case_ || opening == "?i:");
    emit(fmt::format("({}", opening == "?i:" ? "?:" : opening));
    parse_alternatives();
    if (!cursor_.take(")")) {
      throw cursor_.malformed("'(' without ')'", begin);
    }
    emit(")");
    ignore_case_ = outer_case;
    last_literal_ = 0;
    --depth_;
    return repeatable;
  }

  /// Lines end at \n, and there is none behind the last \n of the text.
  bool parse_anchor() {
    const CodePoints newline = CodePoints::single('\n');
    const CodePoints& word = unicode::lone_word();
    if (cursor_.take("^")) {
      emit("(?:\\A|(?<=", newline, ")(?!\\z))");
    } else if (cursor_.take("$")) {
      emit("(?:(?=", newline, ")|\\z)");
    } else if (cursor_.take("\\A")) {
      emit("\\A");
    } else if (cursor_.take("\\z")) {
      emit("\\z");
    } else if (cursor_.take("\\Z")) {
      emit("(?=", newline, "?\\z)");
    } else if (cursor_.take("\\b")) {
      emit("(?:(?<=", word, ")(?!", word, ")|(?<!", word, ")(?=", word, "))");
    } else if (cursor_.take("\\B")) {
      emit("(?:(?<=", word, ")(?=", word, ")|(?<!", word, ")(?!", word, "))");
    } else {
      return false;
    }
    return true;
  }

  /// `first_element`: of the atom before.
  void parse_quantifier(size_t first_element, bool repeatable) {
    const size_t begin = cursor_.offset();
    if (!sees_quantifier()) {
      return;
    }
    if (!repeatable) {
      throw cursor_.unsupported("a quantifier behind something without width", begin);
    }
    last_literal_ = 0;
    if (const std::optional<Interval> interval = parse_interval()) {
      if (interval->most && *interval->most < interval->least) {
        throw cursor_.unsupported("an interval that ends before it begins", begin);
      }
      emit(fmt::format("{{{},{}}}", interval->least, interval->most ? std::to_string(*interval->most) : ""));
      if (cursor_.take("+")) {  // not possessive for Oniguruma: the interval itself is repeated
        const auto position = result_.elements.begin() + static_cast<std::ptrdiff_t>(first_element);
        result_.elements.insert(position, PatternSyntax::Element{"(?:"});
        emit(")+");
      } else if (interval->most == interval->least && cursor_.peek() == '?') {
        throw cursor_.unsupported("'?' behind a fixed interval", begin);
      } else if (cursor_.take("?")) {
        emit("?");
      }
    } else {
      std::string quantifier(1, cursor_.peek());
      cursor_.take(quantifier);
      if (cursor_.peek() == '?' || cursor_.peek() == '+') {  // lazy, possessive
        quantifier += cursor_.peek();
        cursor_.take_code_point();
      }
      emit(std::move(quantifier));
    }
    if (sees_quantifier()) {
      throw cursor_.unsupported("a quantifier behind a quantifier", cursor_.offset());
    }
  }

  bool sees_quantifier() {
    const size_t begin = cursor_.offset();
    const bool interval = parse_interval().has_value();
    cursor_.set_offset(begin);
    return interval || cursor_.peek() == '*' || cursor_.peek() == '+' || cursor_.peek() == '?';
  }

  /// Takes {n}, {n,}, {,m} or {n,m}. Takes nothing if there is none of these: then the brace is a literal.
  std::optional<Interval> parse_interval() {
    const size_t begin = cursor_.offset();
    if (cursor_.take("{")) {
      const std::optional<int> least = take_number();
      const std::optional<int> most = cursor_.take(",") ? take_number() : least;
      if ((least || most) && cursor_.take("}")) {
        return Interval{least.value_or(0), most};
      }
    }
    cursor_.set_offset(begin);
    return std::nullopt;
  }

  std::optional<int> take_number() {
    static constexpr int kLargest = 65535;  // PCRE2's
    const size_t begin = cursor_.offset();
    int number = 0;
    while (cursor_.peek() >= '0' && cursor_.peek() <= '9') {
      number = number * 10 + static_cast<int>(cursor_.take_code_point() - '0');
      if (number > kLargest) {
        throw cursor_.unsupported("so large a number", begin);
      }
    }
    return cursor_.offset() > begin ? std::optional(number) : std::nullopt;
  }

  /// Behind "(", takes "?<name>". Nothing refers to a group, so that it is like any other.
  bool take_group_name() {
    const size_t begin = cursor_.offset();
    const auto is_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
    if (cursor_.take("?<")) {
      const std::optional<std::string_view> name = cursor_.take_until('>');
      if (name && !name->empty() && std::ranges::all_of(*name, is_word) &&
          (name->front() < '0' || name->front() > '9')) {
        return true;
      }
    }
    cursor_.set_offset(begin);
    return false;
  }

  CodePoints cased(const PatternClass& parsed, size_t begin) const {
    return ignore_case_ ? class_ignoring_case(parsed, cursor_, begin) : parsed.set();
  }

  CodePoints cased_literal(CodePoints set, size_t begin) const {
    return ignore_case_ ? literal_ignoring_case(set, cursor_, begin) : std::move(set);
  }

  void emit_one(std::string syntax) { result_.elements.push_back({std::move(syntax)}); }
  void emit_one(CodePoints set) { result_.elements.push_back({"", intern(std::move(set), result_.sets)}); }
  template <typename... Parts>
  void emit(Parts&&... parts) {
    (emit_one(std::forward<Parts>(parts)), ...);
  }

  PatternCursor cursor_;
  int depth_ = 0;
  bool ignore_case_ = false;
  char32_t last_literal_ = 0;  // the literal right before, for foldings of two letters
  PatternSyntax result_;
};

}  // namespace

PatternSyntax parse_pattern(std::string_view pattern) {
  return Parser(pattern).parse();
}

PatternSyntax literal_pattern(std::string_view text) {
  PatternSyntax result;
  for (size_t offset = 0; offset < text.size();) {
    result.elements.push_back({"", intern(CodePoints::single(next_code_point(text, offset)), result.sets)});
  }
  return result;
}

}  // namespace retrosparse
