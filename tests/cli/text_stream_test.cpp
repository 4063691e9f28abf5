#include "cli/text_stream.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "text/utf8.h"

namespace retrosparse::cli {
namespace {

Tokenizer nano_tokenizer() {
  return Tokenizer::from_folder(std::filesystem::path(RETROSPARSE_SOURCE_DIR) / "examples/nano");
}

// Characters of two to four bytes, which a tokenizer of 4,096 tokens has to spell in pieces.
constexpr char kText[] = "naïve – 日本語, 🤖🇫🇷 done";

TEST(TextStream, GivesWholeCharactersThatAddUpToTheText) {
  const Tokenizer tokenizer = nano_tokenizer();
  const std::vector<int64_t> ids = tokenizer.encode(kText);
  TextStream stream(tokenizer);
  std::string text;
  size_t waits = 0;
  for (const int64_t id : ids) {
    const std::string piece = stream.push(id);
    EXPECT_EQ(find_invalid_utf8(piece), std::string_view::npos);
    EXPECT_EQ(piece.find("\xEF\xBF\xBD"), std::string::npos) << piece;
    waits += piece.empty() ? 1 : 0;
    text += piece;
  }
  EXPECT_GT(waits, 5) << "the text does not cut characters, so the test shows nothing";
  EXPECT_EQ(text + stream.finish(), kText);
}

TEST(TextStream, EndsAnUnfinishedCharacterWithAReplacement) {
  const Tokenizer tokenizer = nano_tokenizer();
  std::vector<int64_t> ids = tokenizer.encode("ab🤖");
  ids.pop_back();
  TextStream stream(tokenizer);
  std::string text;
  for (const int64_t id : ids) {
    text += stream.push(id);
  }
  EXPECT_EQ(text, "ab");
  text += stream.finish();
  EXPECT_EQ(text, tokenizer.decode(ids));
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, GarbageIsWhatDecodingMakesOfIt) {
  const Tokenizer tokenizer = nano_tokenizer();
  std::vector<int64_t> ids;
  for (int64_t id = 4; id < 300; ++id) {  // single bytes in the order of the vocabulary, most of them not UTF-8
    ids.push_back(id);
  }
  TextStream stream(tokenizer);
  std::string text;
  for (const int64_t id : ids) {
    text += stream.push(id);
  }
  EXPECT_EQ(text + stream.finish(), tokenizer.decode(ids));
}

TEST(TextStream, WithoutADecoderThereAreSpacesBetweenTokens) {
  const std::string file = (std::filesystem::path(RETROSPARSE_SOURCE_DIR) / "examples/nano/tokenizer.json").string();
  nlohmann::json document = JsonObject::read(file).raw();
  document["decoder"] = nullptr;
  const Tokenizer tokenizer = Tokenizer::from_json(JsonObject::from(document, file));
  const std::vector<int64_t> ids = tokenizer.encode("<|im_start|>naïve 🤖<|im_end|> done<|im_end|>");
  TextStream stream(tokenizer);
  std::string text;
  for (const int64_t id : ids) {
    text += stream.push(id);
  }
  EXPECT_NE(text.find(" Ġ"), std::string::npos) << text;
  EXPECT_EQ(text + stream.finish(), tokenizer.decode(ids));
}

TEST(TextStream, ATokenWithoutTextIsPassedOver) {
  const Tokenizer tokenizer = nano_tokenizer();
  TextStream stream(tokenizer);
  EXPECT_EQ(stream.push(tokenizer.vocab_size() + 5), "");
  EXPECT_EQ(stream.push(tokenizer.encode("a").front()), "a");
}

}  // namespace
}  // namespace retrosparse::cli
