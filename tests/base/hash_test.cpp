#include "base/hash.h"

#include <gtest/gtest.h>

#include <random>

#include "base/testing.h"

namespace retrosparse {
namespace {

TEST(Hash, IsXxh3Of128Bits) {
  // Digests that other implementations publish.
  EXPECT_EQ(hash_text(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hash_text("abc"), "06b05ab6733a618578af5f94892f3950");
}

TEST(Hash, DoesNotDependOnHowTheBytesAreCut) {
  std::mt19937 random(2);
  std::string text(100'000, ' ');
  for (char& letter : text) {
    letter = static_cast<char>(random());
  }
  Hasher hasher;
  for (size_t begin = 0; begin < text.size();) {
    const size_t count = std::min<size_t>(random() % 5'000, text.size() - begin);
    hasher.update(std::string_view(text).substr(begin, count));
    begin += count;
  }
  EXPECT_EQ(hasher.hex(), hash_text(text));
  EXPECT_EQ(hasher.hex(), hash_text(text)) << "reading the digest changes nothing";
  text[50'000] ^= 1;
  EXPECT_NE(hasher.hex(), hash_text(text));
}

TEST(Hash, ReadsFiles) {
  const TempFolder folder;
  put_file(folder / "a", "abc");
  put_file(folder / "empty", "");
  EXPECT_EQ(hash_file(folder / "a"), hash_text("abc"));
  EXPECT_EQ(hash_file(folder / "empty"), hash_text(""));
  EXPECT_TRUE(contains(error_of([&] { hash_file(folder / "gone"); }), "cannot open"));
}

}  // namespace
}  // namespace retrosparse
