#include "text/case_folding.h"

#include <utf8proc.h>

#include <array>
#include <map>
#include <utility>
#include <vector>

namespace retrosparse::unicode {

namespace {

/// Upper and lower case letters of Unicode 16.0 that utf8proc 2.8 (Unicode 15.0) does not know. A newer one agrees.
/// (Data: UCD 16.0.0, CaseFolding.txt.)
constexpr std::pair<char32_t, char32_t> kSince15[] = {
    {0x1C89, 0x1C8A}, {0xA7CB, 0x264}, {0xA7CC, 0xA7CD}, {0xA7DA, 0xA7DB}, {0xA7DC, 0x19B}};
constexpr char32_t kGarayUpper = 0x10D50, kGarayLower = 0x10D70, kGarayLetters = 22;  // since 16.0, too

struct Foldings {
  std::map<char32_t, std::vector<CodePoints::Range>> equal;  // by what they fold to, which is among them
  CodePoints to_several, parts;
};

Foldings read_foldings() {
  Foldings foldings;
  std::vector<CodePoints::Range> to_several, parts;
  const auto add = [&](char32_t from, char32_t to) {
    foldings.equal[to].push_back({from, from});
    foldings.equal[to].push_back({to, to});
  };
  for (char32_t code_point = 0; code_point <= CodePoints::kLast; ++code_point) {
    std::array<utf8proc_int32_t, 8> folded{};
    int boundary_class = 0;
    const auto value = static_cast<utf8proc_int32_t>(code_point);
    const auto length =
        utf8proc_decompose_char(value, folded.data(), folded.size(), UTF8PROC_CASEFOLD, &boundary_class);
    auto to = static_cast<char32_t>(folded[0]);
    if (length > 1) {
      to_several.push_back({code_point, code_point});
      for (size_t i = 0; i < static_cast<size_t>(length); ++i) {
        parts.push_back({static_cast<char32_t>(folded[i]), static_cast<char32_t>(folded[i])});
      }
      const bool dotted_capital_i = code_point == 0x130;  // equals one character in Turkic only
      to = dotted_capital_i ? code_point : static_cast<char32_t>(utf8proc_tolower(value));
    }
    if (length >= 1 && to != code_point) {
      add(code_point, to);
    }
  }
  for (const auto& [upper, lower] : kSince15) {
    add(upper, lower);
  }
  for (char32_t letter = 0; letter < kGarayLetters; ++letter) {
    add(kGarayUpper + letter, kGarayLower + letter);
  }
  foldings.to_several = CodePoints(std::move(to_several));
  foldings.parts = CodePoints(std::move(parts));
  return foldings;
}

const Foldings& foldings() {
  static const Foldings all = read_foldings();
  return all;
}

}  // namespace

CodePoints with_other_cases(const CodePoints& set) {
  std::vector<CodePoints::Range> ranges = set.ranges();
  for (const auto& [folded, equal] : foldings().equal) {
    for (const CodePoints::Range& member : equal) {
      if (set.contains(member.first)) {
        ranges.insert(ranges.end(), equal.begin(), equal.end());
        break;
      }
    }
  }
  return CodePoints(std::move(ranges));
}

const CodePoints& folds_to_several() {
  return foldings().to_several;
}

const CodePoints& parts_of_several() {
  return foldings().parts;
}

}  // namespace retrosparse::unicode
