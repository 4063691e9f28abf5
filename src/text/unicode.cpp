#include "text/unicode.h"

#include <utf8proc.h>

#include <array>
#include <cctype>
#include <map>
#include <string>
#include <vector>

#include "text/unicode_scripts.h"

namespace retrosparse::unicode {

namespace {

struct CategoryRange {
  char32_t first, last;
  const char* category;
};

/// The general categories in which Unicode 16.0 differs from 15.0, which is what utf8proc 2.8 knows. A newer utf8proc
/// agrees with them. (Data: UCD 16.0.0, DerivedGeneralCategory.txt.)
constexpr CategoryRange kSince15[] = {
    // clang-format off
    {0x897, 0x897, "Mn"}, {0x1B4E, 0x1B4F, "Po"}, {0x1B7F, 0x1B7F, "Po"}, {0x1C89, 0x1C89, "Lu"},
    {0x1C8A, 0x1C8A, "Ll"}, {0x2427, 0x2429, "So"}, {0x2FFC, 0x2FFF, "So"}, {0x31E4, 0x31E5, "So"},
    {0x31EF, 0x31EF, "So"}, {0xA7CB, 0xA7CC, "Lu"}, {0xA7CD, 0xA7CD, "Ll"}, {0xA7DA, 0xA7DA, "Lu"},
    {0xA7DB, 0xA7DB, "Ll"}, {0xA7DC, 0xA7DC, "Lu"}, {0x105C0, 0x105F3, "Lo"}, {0x10D40, 0x10D49, "Nd"},
    {0x10D4A, 0x10D4D, "Lo"}, {0x10D4E, 0x10D4E, "Lm"}, {0x10D4F, 0x10D4F, "Lo"}, {0x10D50, 0x10D65, "Lu"},
    {0x10D69, 0x10D6D, "Mn"}, {0x10D6E, 0x10D6E, "Pd"}, {0x10D6F, 0x10D6F, "Lm"}, {0x10D70, 0x10D85, "Ll"},
    {0x10D8E, 0x10D8F, "Sm"}, {0x10EC2, 0x10EC4, "Lo"}, {0x10EFC, 0x10EFC, "Mn"}, {0x11380, 0x11389, "Lo"},
    {0x1138B, 0x1138B, "Lo"}, {0x1138E, 0x1138E, "Lo"}, {0x11390, 0x113B5, "Lo"}, {0x113B7, 0x113B7, "Lo"},
    {0x113B8, 0x113BA, "Mc"}, {0x113BB, 0x113C0, "Mn"}, {0x113C2, 0x113C2, "Mc"}, {0x113C5, 0x113C5, "Mc"},
    {0x113C7, 0x113CA, "Mc"}, {0x113CC, 0x113CD, "Mc"}, {0x113CE, 0x113CE, "Mn"}, {0x113CF, 0x113CF, "Mc"},
    {0x113D0, 0x113D0, "Mn"}, {0x113D1, 0x113D1, "Lo"}, {0x113D2, 0x113D2, "Mn"}, {0x113D3, 0x113D3, "Lo"},
    {0x113D4, 0x113D5, "Po"}, {0x113D7, 0x113D8, "Po"}, {0x113E1, 0x113E2, "Mn"}, {0x116D0, 0x116E3, "Nd"},
    {0x1171E, 0x1171E, "Mc"}, {0x11BC0, 0x11BE0, "Lo"}, {0x11BE1, 0x11BE1, "Po"}, {0x11BF0, 0x11BF9, "Nd"},
    {0x11F5A, 0x11F5A, "Mn"}, {0x13460, 0x143FA, "Lo"}, {0x16100, 0x1611D, "Lo"}, {0x1611E, 0x16129, "Mn"},
    {0x1612A, 0x1612C, "Mc"}, {0x1612D, 0x1612F, "Mn"}, {0x16130, 0x16139, "Nd"}, {0x16D40, 0x16D42, "Lm"},
    {0x16D43, 0x16D6A, "Lo"}, {0x16D6B, 0x16D6C, "Lm"}, {0x16D6D, 0x16D6F, "Po"}, {0x16D70, 0x16D79, "Nd"},
    {0x18CFF, 0x18CFF, "Lo"}, {0x1CC00, 0x1CCEF, "So"}, {0x1CCF0, 0x1CCF9, "Nd"}, {0x1CD00, 0x1CEB3, "So"},
    {0x1E5D0, 0x1E5ED, "Lo"}, {0x1E5EE, 0x1E5EF, "Mn"}, {0x1E5F0, 0x1E5F0, "Lo"}, {0x1E5F1, 0x1E5FA, "Nd"},
    {0x1E5FF, 0x1E5FF, "Po"}, {0x1F8B2, 0x1F8BB, "So"}, {0x1F8C0, 0x1F8C1, "So"}, {0x1FA89, 0x1FA89, "So"},
    {0x1FA8F, 0x1FA8F, "So"}, {0x1FABE, 0x1FABE, "So"}, {0x1FAC6, 0x1FAC6, "So"}, {0x1FADC, 0x1FADC, "So"},
    {0x1FADF, 0x1FADF, "So"}, {0x1FAE9, 0x1FAE9, "So"}, {0x1FBCB, 0x1FBEF, "So"}, {0x2EBF0, 0x2EE5D, "Lo"},
    // clang-format on
};

struct CategoryName {
  std::string_view name, folded_long_name;
};

constexpr CategoryName kCategories[] = {
    {"Lu", "uppercaseletter"},
    {"Ll", "lowercaseletter"},
    {"Lt", "titlecaseletter"},
    {"Lm", "modifierletter"},
    {"Lo", "otherletter"},
    {"Mn", "nonspacingmark"},
    {"Mc", "spacingmark"},
    {"Me", "enclosingmark"},
    {"Nd", "decimalnumber"},
    {"Nl", "letternumber"},
    {"No", "othernumber"},
    {"Pc", "connectorpunctuation"},
    {"Pd", "dashpunctuation"},
    {"Ps", "openpunctuation"},
    {"Pe", "closepunctuation"},
    {"Pi", "initialpunctuation"},
    {"Pf", "finalpunctuation"},
    {"Po", "otherpunctuation"},
    {"Sm", "mathsymbol"},
    {"Sc", "currencysymbol"},
    {"Sk", "modifiersymbol"},
    {"So", "othersymbol"},
    {"Zs", "spaceseparator"},
    {"Zl", "lineseparator"},
    {"Zp", "paragraphseparator"},
    {"Cc", "control"},
    {"Cf", "format"},
    {"Cs", "surrogate"},
    {"Co", "privateuse"},
    {"Cn", "unassigned"},
    {"L", "letter"},
    {"M", "mark"},
    {"N", "number"},
    {"P", "punctuation"},
    {"S", "symbol"},
    {"Z", "separator"},
    {"C", "other"},
};

/// The code points of each two-letter category.
const std::map<std::string, CodePoints, std::less<>>& categories() {
  static const auto all = [] {
    std::vector<const char*> category_of(CodePoints::kLast + 1);
    for (char32_t code_point = 0; code_point <= CodePoints::kLast; ++code_point) {
      category_of[code_point] = utf8proc_category_string(static_cast<utf8proc_int32_t>(code_point));
    }
    for (const CategoryRange& range : kSince15) {
      for (char32_t code_point = range.first; code_point <= range.last; ++code_point) {
        category_of[code_point] = range.category;
      }
    }
    std::map<std::string, std::vector<CodePoints::Range>, std::less<>> ranges;
    for (char32_t first = 0, next = 0; first <= CodePoints::kLast; first = next) {
      const std::string_view category = category_of[first];
      while (next <= CodePoints::kLast && category_of[next] == category) {
        ++next;
      }
      ranges[std::string(category)].push_back({first, next - 1});
    }
    std::map<std::string, CodePoints, std::less<>> sets;
    for (auto& [category, list] : ranges) {
      sets.emplace(category, CodePoints(std::move(list)));
    }
    return sets;
  }();
  return all;
}

/// The union of all two-letter categories that begin with `prefix`.
CodePoints category(std::string_view prefix) {
  CodePoints result;
  for (const auto& [name, set] : categories()) {
    if (name.starts_with(prefix)) {
      result = result | set;
    }
  }
  return result;
}

/// Loose matching of property names.
std::string fold(std::string_view name) {
  std::string folded;
  for (const char c : name) {
    if (c != '_' && c != '-' && c != ' ') {
      folded.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
    }
  }
  return folded;
}

}  // namespace

std::optional<CodePoints> property(std::string_view name) {
  const std::string folded = fold(name);
  for (const CategoryName& entry : kCategories) {
    if (folded == fold(entry.name) || folded == entry.folded_long_name) {
      return category(entry.name);
    }
  }
  return script(folded);
}

const CodePoints& white_space() {
  static const CodePoints set = {{0x9, 0xD},       {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                 {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                 {0x205F, 0x205F}, {0x3000, 0x3000}};
  return set;
}

const CodePoints& word() {
  // Alphabetic is letters, letter numbers, some marks, and circled and squared Latin letters.
  static const CodePoints set =
      category("L") | category("M") | category("Nd") | category("Nl") | category("Pc") |
      CodePoints{{0x24B6, 0x24E9}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};
  return set;
}

const CodePoints& lone_word() {
  static const CodePoints set = word() | CodePoints{{0xB2, 0xB3}, {0xB9, 0xB9}, {0xBC, 0xBE}};
  return set;
}

const CodePoints& token_word() {
  static const CodePoints set = word() | CodePoints{{0x200C, 0x200D}};
  return set;
}

const CodePoints& digits() {
  static const CodePoints set = category("N") | CodePoints{{0x11DE0, 0x11DE9}, {0x16FF4, 0x16FF6}};
  return set;
}

}  // namespace retrosparse::unicode
