#include <gtest/gtest.h>

#include "text/small_tokenizer.h"

namespace retrosparse {
namespace {

using nlohmann::json;

json with_decoder(const json& decoder) {
  json document = small_tokenizer_json();
  document["decoder"] = decoder;
  return document;
}

json sequence(const std::vector<json>& stages) {
  return {{"type", "Sequence"}, {"decoders", stages}};
}

const json kByteLevel = {{"type", "ByteLevel"}}, kFuse = {{"type", "Fuse"}};

TEST(Decoder, StagesOneBehindTheOther) {
  const std::vector<int64_t> ids = {259, 260, 0xE4};
  const auto decode = [&](const json& decoder) { return tokenizer_of(with_decoder(decoder)).decode(ids); };
  for (const json& bytes : {kByteLevel, sequence({kByteLevel}), sequence({kByteLevel, kFuse}),
                            sequence({kFuse, kByteLevel}), sequence({sequence({kByteLevel}), kFuse})}) {
    EXPECT_EQ(decode(bytes), "hello w\uFFFD") << bytes;
  }
  EXPECT_EQ(decode(sequence({})), "helloĠwä");
  EXPECT_EQ(decode(kFuse), "helloĠwä");
  EXPECT_EQ(decode(nullptr), "hello Ġw ä");
}

TEST(Decoder, OnlyItsAbsenceSeparatesTokens) {
  EXPECT_EQ(tokenizer_of(with_decoder(nullptr)).separator(), " ");
  EXPECT_EQ(tokenizer_of(with_decoder(kFuse)).separator(), "");
  EXPECT_EQ(tokenizer_of(with_decoder(kByteLevel)).separator(), "");
}

TEST(Decoder, OtherKindsAreRefusedByName) {
  const auto refusal = [](const json& decoder) { return error_of([&] { tokenizer_of(with_decoder(decoder)); }); };
  const std::string expected = "expected ByteLevel, Fuse, a Sequence of them or null";
  EXPECT_EQ(refusal({{"type", "WordPiece"}}),
            "tokenizer.json: key 'decoder.type': this decoder is not supported: " + expected + ", found 'WordPiece'");
  EXPECT_EQ(
      refusal(sequence({kByteLevel, {{"type", "Strip"}}})),
      "tokenizer.json: key 'decoder.decoders[1].type': this decoder is not supported: " + expected + ", found 'Strip'");
  EXPECT_NE(refusal("ByteLevel").find("key 'decoder': wrong type: expected an object"), std::string::npos);
}

}  // namespace
}  // namespace retrosparse
