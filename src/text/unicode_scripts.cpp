#include "text/unicode_scripts.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/unicode.h"
#include "text/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace retrosparse::unicode {

namespace {

struct Addition {
  char32_t like;  ///< a code point of the same script
  char32_t first, last;
};

/// What Unicode 15.0 and 16.0 added to the scripts of 14.0, which is what PCRE2 10.42 knows. A newer PCRE2 agrees.
/// (Data: UCD 16.0.0, Scripts.txt.)
constexpr Addition kSince14[] = {
    // clang-format off
    {0x41, 0xA7CB, 0xA7CD}, {0x41, 0xA7DA, 0xA7DC}, {0x41, 0x1DF25, 0x1DF2A},                      // Latin
    {0x410, 0x1C89, 0x1C8A}, {0x410, 0x1E030, 0x1E06D}, {0x410, 0x1E08F, 0x1E08F},                 // Cyrillic
    {0x628, 0x897, 0x897}, {0x628, 0x10EC2, 0x10EC4}, {0x628, 0x10EFC, 0x10EFF},                   // Arabic
    {0x905, 0x11B00, 0x11B09},                                                                     // Devanagari
    {0xC85, 0xCF3, 0xCF3},                                                                         // Kannada
    {0xE81, 0xECE, 0xECE},                                                                         // Lao
    {0x1000, 0x116D0, 0x116E3},                                                                    // Myanmar
    {0x1B05, 0x1B4E, 0x1B4F}, {0x1B05, 0x1B7F, 0x1B7F},                                            // Balinese
    {0x3042, 0x1B132, 0x1B132},                                                                    // Hiragana
    {0x30A2, 0x1B155, 0x1B155},                                                                    // Katakana
    {0x4E00, 0x2B739, 0x2B739}, {0x4E00, 0x2EBF0, 0x2EE5D}, {0x4E00, 0x31350, 0x323AF},            // Han
    {0x11200, 0x1123F, 0x11241},                                                                   // Khojki
    {0x13000, 0x1342F, 0x1342F}, {0x13000, 0x13439, 0x13455}, {0x13000, 0x13460, 0x143FA},         // hieroglyphs
    {0x18B00, 0x18CFF, 0x18CFF},                                                                   // Khitan
    // clang-format on
};

/// Alphabetic marks that PCRE2 10.42 does not call so, and lower case letters in meaning that are not in category.
/// (Data: UCD 16.0.0, DerivedCoreProperties.txt.)
const CodePoints& alphabetic_since_14() {
  static const CodePoints set = {
      // clang-format off
      {0x363, 0x36F}, {0x897, 0x897}, {0xC04, 0xC04}, {0xCF3, 0xCF3}, {0xF82, 0xF83}, {0x1DD3, 0x1DE6},
      {0x10D69, 0x10D69}, {0x10EFC, 0x10EFC}, {0x11080, 0x11081}, {0x11241, 0x11241}, {0x113B8, 0x113C0},
      {0x113C2, 0x113C2}, {0x113C5, 0x113C5}, {0x113C7, 0x113CA}, {0x113CC, 0x113CD}, {0x11F00, 0x11F01},
      {0x11F03, 0x11F03}, {0x11F34, 0x11F3A}, {0x11F3E, 0x11F40}, {0x1611E, 0x1612E}, {0x1E08F, 0x1E08F},
      // clang-format on
  };
  return set;
}
const CodePoints& lower_case_since_14() {
  static const CodePoints set = {{0x10FC, 0x10FC}, {0xA7F2, 0xA7F4}, {0xAB69, 0xAB69}, {0x1E030, 0x1E06D}};
  return set;
}

/// All code points in a row, without surrogates.
const std::string& all_code_points() {
  static const std::string all = [] {
    std::string text;
    for (char32_t code_point = 0; code_point <= CodePoints::kLast; ++code_point) {
      if (code_point < 0xD800 || code_point >= 0xE000) {
        append_utf8(code_point, text);
      }
    }
    return text;
  }();
  return all;
}

/// The code points that PCRE2 gives a property; none where it does not know the property.
std::optional<CodePoints> pcre2_property(std::string_view name) {
  const std::string pattern = fmt::format("\\p{{{}}}+", name);
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF, &error, &offset, nullptr),
      &pcre2_code_free);
  if (!code) {
    return std::nullopt;
  }
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // where it cannot, matching is slower
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(pcre2_match_data_create(1, nullptr),
                                                                                  &pcre2_match_data_free);
  const std::string& text = all_code_points();
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(match.get());
  std::vector<CodePoints::Range> ranges;
  for (size_t from = 0; pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                    PCRE2_NO_UTF_CHECK, match.get(), nullptr) > 0;
       from = found[1]) {
    size_t first = found[0], last = previous_offset(text, found[1]);
    ranges.push_back({next_code_point(text, first), next_code_point(text, last)});
  }
  return CodePoints(std::move(ranges));
}

const CodePoints& alphabetic() {
  static const CodePoints set =
      pcre2_property("Alphabetic").value() | *property("L") | *property("Nl") | alphabetic_since_14();
  return set;
}

const CodePoints& graphic() {
  static const CodePoints set = ~(white_space() | *property("Cc") | *property("Cn") | *property("Cs"));
  return set;
}

}  // namespace

std::optional<CodePoints> script(std::string_view folded_name) {
  static constexpr std::string_view kNoScripts[] = {"common", "zyyy", "inherited", "zinh", "qaai", "unknown", "zzzz"};
  const auto is_name = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (!std::ranges::all_of(folded_name, is_name) || std::ranges::count(kNoScripts, folded_name) > 0) {
    return std::nullopt;
  }
  std::optional<CodePoints> set = pcre2_property(fmt::format("sc:{}", folded_name));
  for (const Addition& addition : kSince14) {
    if (set && set->contains(addition.like)) {
      *set = *set | CodePoints{{addition.first, addition.last}};
    }
  }
  return set;
}

std::optional<CodePoints> posix_class(std::string_view name) {
  const auto is = [&](std::string_view other) { return name == other; };
  if (is("alpha")) {
    return alphabetic();
  }
  if (is("alnum")) {
    return alphabetic() | *property("Nd");
  }
  if (is("lower")) {
    return pcre2_property("Lowercase").value() | *property("Ll") | lower_case_since_14();
  }
  if (is("upper")) {
    return pcre2_property("Uppercase").value() | *property("Lu");
  }
  if (is("graph") || is("print")) {
    return is("graph") ? graphic() : graphic() | *property("Zs");
  }
  if (is("punct")) {
    return *property("P") | *property("S");
  }
  static const std::map<std::string_view, CodePoints> others = {{"ascii", {{0, 0x7F}}},
                                                                {"blank", *property("Zs") | CodePoints::single('\t')},
                                                                {"cntrl", *property("Cc")},
                                                                {"digit", *property("Nd")},
                                                                {"space", white_space()},
                                                                {"word", word()},
                                                                {"xdigit", {{'0', '9'}, {'a', 'f'}, {'A', 'F'}}}};
  const auto found = others.find(name);
  return found == others.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace retrosparse::unicode
