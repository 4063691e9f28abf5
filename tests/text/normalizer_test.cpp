#include "text/normalizer.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <memory>
#include <random>

#include "text/utf8.h"

namespace retrosparse {
namespace {

constexpr NormalForm kForms[] = {NormalForm::kNfc, NormalForm::kNfd, NormalForm::kNfkc, NormalForm::kNfkd};

/// utf8proc over the whole string, without our boundaries and our ordering of marks.
std::string by_utf8proc(NormalForm form, const std::string& text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.c_str());
  utf8proc_uint8_t* result = form == NormalForm::kNfc    ? utf8proc_NFC(bytes)
                             : form == NormalForm::kNfd  ? utf8proc_NFD(bytes)
                             : form == NormalForm::kNfkc ? utf8proc_NFKC(bytes)
                                                         : utf8proc_NFKD(bytes);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&free)> owner(result, &free);
  return reinterpret_cast<const char*>(result);
}

TEST(Normalizer, AgreesWithUtf8procOnWhatUnicode9Knows) {
  constexpr std::pair<char32_t, char32_t> kBlocks[] = {
      {'a', 'f'},         {0xC0, 0x180},      {0x300, 0x370},   {0x1E00, 0x1F00}, {0x5B0, 0x5C8},
      {0x1100, 0x1113},   {0x1161, 0x1176},   {0x11A7, 0x11C3}, {0xAC00, 0xAC60}, {0x915, 0x960},
      {0x9C7, 0x9D8},     {0x3040, 0x30A0},   {0x2100, 0x2150}, {0xFB00, 0xFB50}, {0xF900, 0xFA00},
      {0x1D150, 0x1D170}, {0x2F800, 0x2F830}, {0xF70, 0xF85},   {0x212A, 0x212C}};
  std::mt19937 random(1);
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    for (size_t count = random() % 12; count > 0; --count) {
      const auto [first, end] = kBlocks[random() % std::size(kBlocks)];
      append_utf8(first + random() % (end - first), text);
    }
    for (const NormalForm form : kForms) {
      const std::string normal = normalize(text, {Normalizer(form)});
      ASSERT_EQ(normal, by_utf8proc(form, text)) << text;
      ASSERT_EQ(normalize(normal, {Normalizer(form)}), normal) << text;
    }
  }
}

TEST(Normalizer, LeavesNormalTextWhereItIs) {
  const std::string text = "Plain, naïve, 世界, “quoted”, Ελληνικά";
  std::string buffer;
  EXPECT_EQ(Normalizer(NormalForm::kNfc).normalize(text, buffer).data(), text.data());
}

TEST(Normalizer, NewerCharactersAreInert) {
  const std::string text = "a\u1ABF\u0323";  // U+1ABF: class 220 since Unicode 13
  EXPECT_EQ(normalize(text, {Normalizer(NormalForm::kNfc)}), text);
  const std::string composed = "\U00011938";  // decomposes since Unicode 13
  EXPECT_EQ(normalize(composed, {Normalizer(NormalForm::kNfd)}), composed);
}

TEST(Normalizer, LongRunsOfMarksTakeLinearithmicTime) {
  std::string text = "a", sorted = "ạ";
  for (int i = 0; i < 200'000; ++i) {
    text += "\u0301\u0323";  // above, below: to be sorted
  }
  const std::string normal = normalize(text, {Normalizer(NormalForm::kNfc)});
  EXPECT_EQ(normal.size(), sorted.size() + text.size() - std::string("a\u0323").size());
  EXPECT_TRUE(normal.starts_with(sorted + "\u0323"));
  EXPECT_TRUE(normal.ends_with("\u0301\u0301"));
}

}  // namespace
}  // namespace retrosparse
