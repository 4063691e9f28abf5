#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "text/byte_level.h"
#include "text/pattern_syntax.h"
#include "text/pre_tokenizer.h"
#include "text/small_tokenizer.h"
#include "text/splitter.h"

namespace retrosparse {
namespace {

using Pieces = std::vector<std::string>;

Pieces split(std::string_view pattern, std::string_view text, SplitBehavior behavior = SplitBehavior::kIsolated,
             bool invert = false) {
  PatternMatcher::Scratch scratch;
  Pieces pieces;
  Splitter(parse_pattern(pattern), behavior, invert).split(text, scratch, [&](std::string_view piece) {
    pieces.emplace_back(piece);
  });
  return pieces;
}

TEST(Splitter, Behaviors) {
  const std::string text = "the-final--countdown";
  const auto with = [&](SplitBehavior behavior, bool invert = false) { return split("-", text, behavior, invert); };
  EXPECT_EQ(with(SplitBehavior::kRemoved), (Pieces{"the", "final", "countdown"}));
  EXPECT_EQ(with(SplitBehavior::kIsolated), (Pieces{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(with(SplitBehavior::kMergedWithPrevious), (Pieces{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(with(SplitBehavior::kMergedWithNext), (Pieces{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(with(SplitBehavior::kContiguous), (Pieces{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(with(SplitBehavior::kRemoved, true), (Pieces{"-", "-", "-"}));
  EXPECT_EQ(with(SplitBehavior::kMergedWithPrevious, true), (Pieces{"the", "-final", "-", "-countdown"}));
}

TEST(Splitter, PlacesAreBytesOfTheText) {
  EXPECT_EQ(split(R"(\p{L}+)", "für die Österreicher世界!"), (Pieces{"für", " ", "die", " ", "Österreicher世界", "!"}));
  EXPECT_EQ(split("", "aé世"), (Pieces{"a", "é", "世"}));
}

TEST(Splitter, Gpt2Pattern) {
  EXPECT_EQ(split(kGpt2Pattern, "I've  2 books,\n\nyou're"),
            (Pieces{"I", "'ve", " ", " 2", " books", ",", "\n", "\n", "you", "'re"}));
}

TEST(Pattern, WhiteSpaceIsUnicodes) {  // U+180E is white space to PCRE2, U+0085 is not always
  EXPECT_EQ(split(R"(\s)", "a\u180Eb\u0085c"), (Pieces{"a\u180Eb", "\u0085", "c"}));
  EXPECT_EQ(split(R"(\S+)", "a\u180Eb\u0085c"), (Pieces{"a\u180Eb", "\u0085", "c"}));
  EXPECT_EQ(split(R"([^\S\n]+)", "a \n b"), (Pieces{"a", " ", "\n", " ", "b"}));
}

TEST(Pattern, LettersNewerThanTheRegexLibrary) {
  EXPECT_EQ(split(R"(\p{L}+)", "-\U00010D50\U00031350-"), (Pieces{"-", "\U00010D50\U00031350", "-"}));
}

TEST(Pattern, IgnoringCaseKnowsTheLongSAndTheKelvinSign) {
  EXPECT_EQ(split("(?i:'s)", "x'ſ'S"), (Pieces{"x", "'ſ", "'S"}));
  EXPECT_EQ(split("(?i:k)x", "\u212Axkx"), (Pieces{"\u212Ax", "kx"}));
  EXPECT_EQ(split("(?i:a)b", "ABAb"), (Pieces{"AB", "Ab"}));  // the option ends with its group
}

TEST(Pattern, AnOptionGoesToTheEndOfItsGroup) {
  EXPECT_EQ(split("a(?i)b|c", "ABaBacC"), (Pieces{"AB", "aB", "ac", "C"}));
  EXPECT_EQ(split("(a(?i)b)c", "aBcaBC"), (Pieces{"aBc", "aBC"}));
}

TEST(Pattern, ANamedGroupIsAGroup) {
  EXPECT_EQ(split("(?<word>a|b)+", "xabx"), (Pieces{"x", "ab", "x"}));
}

TEST(Pattern, ScriptsAndPosixBrackets) {
  EXPECT_EQ(split(R"([\p{Hiragana}\p{Katakana}]+)", "あア漢Я"), (Pieces{"あア", "漢Я"}));
  EXPECT_EQ(split(R"(\p{cyrl}+)", "aЯя"), (Pieces{"a", "Яя"}));
  EXPECT_EQ(split("[[:space:][:digit:]]+", "a 1b"), (Pieces{"a", " 1", "b"}));
  EXPECT_EQ(split("[[:^alpha:]]+", "a1é"), (Pieces{"a", "1", "é"}));
}

TEST(Pattern, APlusBehindAnIntervalRepeatsIt) {
  EXPECT_EQ(split(R"(\p{N}{1,3})", "1234567"), (Pieces{"123", "456", "7"}));
  EXPECT_EQ(split(R"(\p{N}{1,3}+)", "1234567"), (Pieces{"1234567"}));
}

TEST(Pattern, ClassesAreSets) {
  EXPECT_EQ(split("[a-z&&[^aeiou]]+", "hello"), (Pieces{"h", "e", "ll", "o"}));
  EXPECT_EQ(split(R"([a[x-z]\d-]+)", "ax-3b"), (Pieces{"ax-3", "b"}));
  EXPECT_EQ(split(R"([^\P{L}]+)", "ab12"), (Pieces{"ab", "12"}));
}

TEST(Pattern, RefusesWhatItDoesNotUnderstand) {
  const auto refusal = [](std::string_view pattern) {
    return error_of([&] { PatternMatcher{parse_pattern(pattern)}; });
  };
  for (const char* pattern :
       {R"((a)\1)",      R"(\k<name>)", R"(\Ga)",        R"(\R)",        R"(\X)",     R"(\K)",     "(?<1>a)",
        "(?<a b>c)",     "(?i-m)a",     "(?m:a)",        "(?#x)",        "[[:foo:]]", "[[:alpha]", "[]a]",
        "[a-c-e]",       R"([\w-z])",   R"(\p{Common})", R"(\p{IsHan})", R"(\xE9)",   "(?i:ß)",    "(?i:[ß])",
        "(?i:[\\p{L}])", "(?i:\u0307)", "(?i:ss)",       "(?i)Fi",       "a**",       "a{2}{3}",   "a{2}?",
        "a{3,2}",        "a{70000}",    "(?=a)*",        "(?<=a+)b",     "^*"}) {
    EXPECT_NE(refusal(pattern).find("not supported in a split pattern"), std::string::npos)
        << pattern << ": " << refusal(pattern);
  }
  for (const char* pattern : {"(", "(a", "a)", "*", "|+", "[", "[a", "[^", "[a-", "[z-a]", "\\", R"(\p{L)", R"(\pL)",
                              R"(\x{110000})", R"(\uD800)", R"(\x4)", "a|{2}"}) {
    EXPECT_NE(refusal(pattern).find("malformed split pattern"), std::string::npos)
        << pattern << ": " << refusal(pattern);
  }
  EXPECT_EQ(refusal("ab(?P<n>c)"),
            "not supported in a split pattern: found this kind of group at byte 2 of 'ab(?P<n>c)'");
}

TEST(Pattern, DeepNestingIsRefusedNotACrash) {
  EXPECT_NE(error_of([] { parse_pattern(std::string(100'000, '(')); }), "");
  EXPECT_NE(error_of([] { parse_pattern(std::string(100'000, '[')); }), "");
  std::string options;
  for (int i = 0; i < 100'000; ++i) {
    options += "(?i)";
  }
  EXPECT_NE(error_of([&] { parse_pattern(options); }), "");
}

TEST(Pattern, EndlessBacktrackingIsAnErrorNotAHang) {
  EXPECT_NE(error_of([] { split("(a|aa)+$|(a|a)+b", std::string(100, 'a') + "!"); }), "");
}

TEST(Pattern, LongRunsAreNoEndlessBacktracking) {
  const std::string spaces(20'000'000, ' ');
  EXPECT_EQ(split(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", spaces + "a"), (Pieces{spaces.substr(1), " ", "a"}));
}

TEST(PreTokenizer, EveryStepCutsThePiecesOfTheOneBefore) {
  const PreTokenizer pre_tokenizer({Splitter(parse_pattern(" "), SplitBehavior::kMergedWithNext),
                                    PreTokenizer::PrefixSpace(),
                                    Splitter(parse_pattern("[0-9]"), SplitBehavior::kIsolated)});
  PreTokenizer::Scratch scratch(pre_tokenizer);
  Pieces pieces;
  pre_tokenizer.split("a1 b2", scratch, [&](std::string_view piece) { pieces.emplace_back(piece); });
  EXPECT_EQ(pieces, (Pieces{" a", "1", " b", "2"}));
}

TEST(ByteLevel, EveryByteComesBack) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) {
    bytes += static_cast<char>(byte);
  }
  EXPECT_EQ(from_byte_level(to_byte_level(bytes)), bytes);
  EXPECT_EQ(to_byte_level(" world\n"), "ĠworldĊ");
  EXPECT_EQ(from_byte_level("a b"), std::nullopt);
  EXPECT_EQ(from_byte_level("世"), std::nullopt);
}

}  // namespace
}  // namespace retrosparse
