#include "text/code_points.h"

#include <gtest/gtest.h>

#include <bitset>
#include <random>

#include "base/error.h"
#include "text/character_classes.h"
#include "text/unicode.h"

namespace retrosparse {
namespace {

constexpr size_t kUniverse = 64;

/// The same set both ways. Ranges are in disorder and overlap.
std::pair<CodePoints, std::bitset<kUniverse>> random_set(std::mt19937& random) {
  std::vector<CodePoints::Range> ranges;
  std::bitset<kUniverse> bits;
  for (size_t count = random() % 6; ranges.size() < count;) {
    const char32_t first = random() % kUniverse;
    const char32_t last = std::min<char32_t>(first + random() % 10, kUniverse - 1);
    ranges.push_back({first, last});
    for (char32_t code_point = first; code_point <= last; ++code_point) {
      bits.set(code_point);
    }
  }
  return {CodePoints(ranges), bits};
}

void expect_equal(const CodePoints& set, const std::bitset<kUniverse>& bits) {
  for (char32_t code_point = 0; code_point < kUniverse; ++code_point) {
    ASSERT_EQ(set.contains(code_point), bits.test(code_point)) << static_cast<uint32_t>(code_point);
  }
}

TEST(CodePoints, AlgebraAgreesWithBitsets) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    const auto [a, a_bits] = random_set(random);
    const auto [b, b_bits] = random_set(random);
    expect_equal(a, a_bits);
    expect_equal(a | b, a_bits | b_bits);
    expect_equal(a & b, a_bits & b_bits);
    expect_equal(~a, ~a_bits);
    EXPECT_EQ(~~a, a);
    EXPECT_TRUE((a & ~a).empty());
  }
  EXPECT_EQ(~CodePoints(), (CodePoints{{0, CodePoints::kLast}}));
}

TEST(CodePoints, RangesAreApart) {
  EXPECT_EQ(CodePoints({{5, 6}, {1, 2}, {3, 3}, {6, 9}}).ranges(), (std::vector<CodePoints::Range>{{1, 3}, {5, 9}}));
}

TEST(CharacterClasses, ClassesAreExactlyTheSets) {
  std::mt19937 random(2);
  for (int round = 0; round < 30; ++round) {
    std::vector<CodePoints> sets;
    for (int i = 0; i < 4; ++i) {
      sets.push_back(random_set(random).first);
    }
    sets.push_back(*unicode::property("Lo"));
    const CharacterClasses classes(sets);
    for (size_t set = 0; set < sets.size(); ++set) {
      const std::vector<uint8_t>& members = classes.classes_in(set);
      for (char32_t code_point = 0; code_point <= CodePoints::kLast; code_point += code_point < 200 ? 1 : 997) {
        const bool is_member = std::count(members.begin(), members.end(), classes.class_of(code_point)) > 0;
        ASSERT_EQ(is_member, sets[set].contains(code_point));
      }
    }
  }
}

TEST(CharacterClasses, RefusesMoreKindsThanAByteCanTell) {
  std::vector<CodePoints> sets;
  for (char32_t code_point = 1; code_point <= 255; ++code_point) {
    sets.push_back(CodePoints::single(code_point));
  }
  EXPECT_NO_THROW(CharacterClasses{sets});
  sets.push_back(CodePoints::single(256));
  EXPECT_THROW(CharacterClasses{sets}, Error);
}

TEST(Unicode, PropertiesByAnyName) {
  EXPECT_EQ(unicode::property("Lu"), unicode::property("uppercase_letter"));
  EXPECT_EQ(unicode::property("L"), unicode::property("Letter"));
  EXPECT_TRUE(unicode::property("Han")->contains(U'世'));
  EXPECT_EQ(unicode::property("Latinate"), std::nullopt);
  EXPECT_EQ(unicode::property(""), std::nullopt);
}

TEST(Unicode, TheCategoriesPartitionEverything) {
  CodePoints all;
  for (const char* name : {"L", "M", "N", "P", "S", "Z", "C"}) {
    EXPECT_TRUE((all & *unicode::property(name)).empty()) << name;
    all = all | *unicode::property(name);
  }
  EXPECT_EQ(all, ~CodePoints());
}

TEST(Unicode, WhiteSpaceIsTheProperty) {
  for (const char32_t space : {U'\t', U'\v', U'\u0085', U'\u00A0', U'\u2028', U'\u3000'}) {
    EXPECT_TRUE(unicode::white_space().contains(space));
  }
  for (const char32_t other : {U'\u180E', U'\u200B', U'\u2060', U'\uFEFF'}) {
    EXPECT_FALSE(unicode::white_space().contains(other));
  }
}

}  // namespace
}  // namespace retrosparse
