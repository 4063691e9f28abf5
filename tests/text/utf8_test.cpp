#include "text/utf8.h"

#include <gtest/gtest.h>

#include <random>

namespace retrosparse {
namespace {

TEST(Utf8, EveryCodePointComesBack) {
  for (char32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point == 0xD800) {
      code_point = 0xE000;
    }
    std::string text;
    append_utf8(code_point, text);
    size_t offset = 0;
    ASSERT_EQ(next_code_point(text, offset), code_point);
    ASSERT_EQ(offset, text.size());
    ASSERT_EQ(previous_offset(text, text.size()), 0u);
    ASSERT_EQ(find_invalid_utf8(text), std::string_view::npos);
  }
}

TEST(Utf8, NamesTheFirstInvalidByte) {
  EXPECT_EQ(find_invalid_utf8(""), std::string_view::npos);
  EXPECT_EQ(find_invalid_utf8("abc\xFF"), 3u);
  EXPECT_EQ(find_invalid_utf8("0123456789\xC3"), 10u);   // cut
  EXPECT_EQ(find_invalid_utf8("\xC0\x80"), 0u);          // overlong
  EXPECT_EQ(find_invalid_utf8("\xE0\x9F\xBF"), 0u);      // overlong
  EXPECT_EQ(find_invalid_utf8("x\xED\xA0\x80"), 1u);     // a surrogate
  EXPECT_EQ(find_invalid_utf8("\xF4\x90\x80\x80"), 0u);  // above U+10FFFF
  EXPECT_EQ(find_invalid_utf8("\xC3\xA9\x80"), 2u);      // a continuation alone
  EXPECT_EQ(find_invalid_utf8("01234567\xE2\x82\xAC\xE2\x82x"), 11u);
}

TEST(Utf8, ReplacesMaximalSubparts) {  // the examples of the Unicode Standard, table 3-8 and 3-11
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            std::string("\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD") + "A");
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            std::string("\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD") + "A");
  EXPECT_EQ(replace_invalid_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"),
            std::string("\uFFFD\uFFFD\uFFFD\uFFFD") + "A");
}

TEST(Utf8, ReplacingLeavesExactlyValidTextAlone) {
  std::mt19937 random(1);
  const std::string_view bytes("a\x7F\x80\xBF\xC2\xC3\xE0\xA0\xED\x9F\xEF\xF0\x90\xF4\x8F\xFF");
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (size_t size = random() % 12; text.size() < size;) {
      text += bytes[random() % bytes.size()];
    }
    const std::string replaced = replace_invalid_utf8(text);
    EXPECT_EQ(replaced == text, find_invalid_utf8(text) == std::string_view::npos);
    EXPECT_EQ(find_invalid_utf8(replaced), std::string_view::npos);
  }
}

}  // namespace
}  // namespace retrosparse
