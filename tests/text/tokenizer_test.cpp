#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "text/small_tokenizer.h"

namespace retrosparse {
namespace {

using Ids = std::vector<int64_t>;
using nlohmann::json;

TEST(Tokenizer, EncodesAndDecodes) {
  const Tokenizer tokenizer = tokenizer_of(small_tokenizer_json());
  const Ids ids = tokenizer.encode("hello world");
  EXPECT_EQ(ids, (Ids{259, 260, 'o', 'r', 'l', 'd'}));
  EXPECT_EQ(tokenizer.decode(ids), "hello world");
  EXPECT_EQ(tokenizer.encode(""), Ids());
  EXPECT_EQ(tokenizer.decode(Ids()), "");
  EXPECT_EQ(tokenizer.vocab_size(), 261);
  EXPECT_EQ(tokenizer.token_to_id("hello"), 259);
  EXPECT_EQ(tokenizer.token_to_id("Ġw"), 260);
  EXPECT_EQ(tokenizer.token_to_id("world"), std::nullopt);
  EXPECT_EQ(tokenizer.id_to_token(260), "Ġw");
  const std::string with_nul("a\0b", 3);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(with_nul)), with_nul);
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const Tokenizer tokenizer = tokenizer_of(small_tokenizer_json());
  EXPECT_EQ(error_of([&] { tokenizer.encode("abc\xFFx"); }),
            "the text is not valid UTF-8: found byte 0xFF at offset 3");
}

TEST(Tokenizer, RefusesIdsThatNoTokenHas) {
  json document = small_tokenizer_json();
  document["model"]["vocab"]["gap"] = 270;
  const Tokenizer tokenizer = tokenizer_of(document);
  EXPECT_EQ(error_of([&] {
              tokenizer.decode(Ids{'a', 271});
            }),
            "no token has this id: expected an id below 271, found 271 at place 1");
  EXPECT_NE(error_of([&] { tokenizer.decode(Ids{265}); }), "");  // a hole
  EXPECT_NE(error_of([&] { tokenizer.decode(Ids{-1}); }), "");
  EXPECT_NE(error_of([&] { tokenizer.decode(Ids{int64_t{1} << 40}); }), "");
  EXPECT_NE(error_of([&] { tokenizer.id_to_token(265); }), "");
  EXPECT_FALSE(tokenizer.is_special(271));
}

TEST(Tokenizer, HalfCharactersDecodeToReplacements) {
  const Tokenizer tokenizer = tokenizer_of(small_tokenizer_json());
  EXPECT_EQ(tokenizer.decode(Ids{'a', 0xE4, 0xB8, 'b', 0x96}), "a\uFFFDb\uFFFD");
}

TEST(Tokenizer, SpecialTokens) {
  json document = small_tokenizer_json();
  document["added_tokens"] = {added_token("<s>", 261, {{"special", true}}), added_token("<note>", 262)};
  document["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {261}}, {"tokens", {"<s>"}}}}}}};
  const Tokenizer tokenizer = tokenizer_of(document);
  EXPECT_EQ(tokenizer.encode("a<s><note>"), (Ids{261, 'a', 261, 262}));
  EXPECT_EQ(tokenizer.encode("a<s>", {.add_special_tokens = false}), (Ids{'a', 261}));
  EXPECT_EQ(tokenizer.encode("a<s><note>", {.parse_special = false}), (Ids{261, 'a', '<', 's', '>', 262}));
  EXPECT_EQ(tokenizer.encode(""), Ids{261});
  EXPECT_EQ(tokenizer.decode(Ids{261, 'a', 262}), "a<note>");
  EXPECT_EQ(tokenizer.decode(Ids{261, 'a', 262}, {.skip_special_tokens = false}), "<s>a<note>");
  EXPECT_TRUE(tokenizer.is_special(261));
  EXPECT_FALSE(tokenizer.is_special(262));
  EXPECT_EQ(tokenizer.token_to_id("<s>"), 261);
  EXPECT_EQ(tokenizer.vocab_size(), 263);
}

TEST(Tokenizer, AddedTokensAreFoundLongestFirstAndByTheirFlags) {
  const auto encode = [](const std::vector<json>& tokens, std::string_view text) {
    json document = small_tokenizer_json({});
    document["added_tokens"] = tokens;
    return tokenizer_of(document).encode(text);
  };
  const json ab = added_token("ab", 256), abc = added_token("abc", 257);
  EXPECT_EQ(encode({ab, abc}, "abcab"), (Ids{257, 256}));
  EXPECT_EQ(encode({ab, added_token("bcd", 257)}, "abcd"), (Ids{256, 'c', 'd'}));  // leftmost before longest
  EXPECT_EQ(encode({added_token("ab", 256, {{"single_word", true}})}, "ab xab éab ab!"),
            (Ids{256, ' ', 'x', 'a', 'b', ' ', 0xC3, 0xA9, 'a', 'b', ' ', 256, '!'}));
  EXPECT_EQ(encode({added_token("ab", 256, {{"lstrip", true}})}, "x \u3000ab y"), (Ids{'x', 256, ' ', 'y'}));
  EXPECT_EQ(encode({added_token("ab", 256, {{"rstrip", true}})}, "x ab \n y"), (Ids{'x', ' ', 256, 'y'}));
}

TEST(Tokenizer, NormalizedAddedTokensAreFoundInNormalizedText) {
  json document = small_tokenizer_json({});
  document["normalizer"] = {{"type", "NFC"}};
  document["added_tokens"] = {added_token("<e\u0301>", 256, {{"normalized", true}}), added_token("[e\u0301]", 257)};
  const Tokenizer tokenizer = tokenizer_of(document);
  EXPECT_EQ(tokenizer.encode("<é>"), Ids{256});
  EXPECT_EQ(tokenizer.encode("<e\u0301>"), Ids{256});
  EXPECT_EQ(tokenizer.encode("[e\u0301]"), Ids{257});
  EXPECT_EQ(tokenizer.encode("[é]"), (Ids{'[', 0xC3, 0xA9, ']'}));
}

TEST(Tokenizer, ManyThreadsAtOnce) {
  const Tokenizer tokenizer = tokenizer_of(small_tokenizer_json());
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&tokenizer, &wrong, thread] {
      for (int round = 0; round < 200; ++round) {
        const std::string text = "hello world " + std::to_string(thread * 1000 + round) + " hello";
        wrong += tokenizer.decode(tokenizer.encode(text)) != text;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, 0);
}

/// What is refused, and the words that the message has to have: the key, and what is wrong.
struct Refusal {
  const char* what;
  json patch;  // RFC 6902, on the small tokenizer
  std::vector<const char*> words;
};

json replace(const char* path, json value) {
  return {{{"op", "add"}, {"path", path}, {"value", std::move(value)}}};
}
json remove(const char* path) {
  return {{{"op", "remove"}, {"path", path}}};
}

TEST(Tokenizer, BrokenAndForeignFilesAreRefusedByName) {
  const json byte_level = small_tokenizer_json()["pre_tokenizer"];
  const auto sequence = [](std::vector<json> stages) { return json{{"type", "Sequence"}, {"pretokenizers", stages}}; };
  const Refusal refusals[] = {
      {"another version", replace("/version", "2.0"), {"version", "2.0"}},
      {"no model", remove("/model"), {"model", "missing"}},
      {"Unigram",
       replace("/model", {{"type", "Unigram"}, {"vocab", json::array()}}),
       {"model.type", "'Unigram'", "byte-level BPE"}},
      {"WordPiece", replace("/model/type", "WordPiece"), {"model.type", "'WordPiece'"}},
      {"WordLevel", replace("/model/type", "WordLevel"), {"model.type", "'WordLevel'"}},
      {"byte fallback", replace("/model/byte_fallback", true), {"model.byte_fallback", "SentencePiece"}},
      {"dropout", replace("/model/dropout", 0.1), {"model.dropout", "at random"}},
      {"a suffix", replace("/model/end_of_word_suffix", "</w>"), {"model.end_of_word_suffix"}},
      {"a prefix", replace("/model/continuing_subword_prefix", "##"), {"model.continuing_subword_prefix"}},
      {"no vocabulary", remove("/model/vocab"), {"model.vocab", "missing"}},
      {"a list for a vocabulary", replace("/model/vocab", json::array()), {"model.vocab", "an object"}},
      {"a negative id", replace("/model/vocab/a", -1), {"model.vocab.a", "-1"}},
      {"a huge id", replace("/model/vocab/a", 4'000'000'000u), {"model.vocab.a", "4000000000"}},
      {"an id that is no number", replace("/model/vocab/a", "97"), {"model.vocab.a"}},
      {"an id that is no integer", replace("/model/vocab/a", 97.0), {"model.vocab.a"}},
      {"an id twice", replace("/model/vocab/a", 98), {"model.vocab", "98", "'a'"}},
      {"no merges", remove("/model/merges"), {"model.merges", "missing"}},
      {"an object for merges", replace("/model/merges", json::object()), {"model.merges", "a list"}},
      {"a merge without a space", replace("/model/merges/1", "ll"), {"model.merges[1]"}},
      {"a merge with two spaces", replace("/model/merges/1", "l l l"), {"model.merges[1]"}},
      {"a merge of three", replace("/model/merges/1", {"l", "l", "l"}), {"model.merges[1]"}},
      {"a merge of numbers", replace("/model/merges/1", {1, 2}), {"model.merges[1]"}},
      {"a merge of unknown tokens", replace("/model/merges/1", "l q世"), {"model.merges[1]", "'l' + 'q世'"}},
      {"a merge to an unknown token", replace("/model/merges/1", "x y"), {"model.merges[1]", "'xy'"}},
      {"an unknown unk_token that is needed",
       json::array({remove("/model/vocab/z")[0], replace("/model/unk_token", "<unk>")[0]}),
       {"model.unk_token", "'z'"}},
      {"unk_token of a wrong type", replace("/model/unk_token", 5), {"model.unk_token"}},
      {"Lowercase", replace("/normalizer", {{"type", "Lowercase"}}), {"normalizer.type", "'Lowercase'"}},
      {"Replace in a sequence",
       replace("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Replace"}}}}}),
       {"normalizer.normalizers[1].type", "'Replace'"}},
      {"no kind", replace("/normalizer", json::object()), {"normalizer.type", "missing"}},
      {"no pre-tokenizer", replace("/pre_tokenizer", nullptr), {"pre_tokenizer", "bytes"}},
      {"Metaspace", replace("/pre_tokenizer", {{"type", "Metaspace"}}), {"pre_tokenizer.type", "'Metaspace'"}},
      {"Whitespace before ByteLevel",
       replace("/pre_tokenizer", sequence({{{"type", "Whitespace"}}, byte_level})),
       {"pre_tokenizer.pretokenizers[0].type", "'Whitespace'"}},
      {"no ByteLevel",
       replace("/pre_tokenizer", {{"type", "Digits"}, {"individual_digits", true}}),
       {"pre_tokenizer", "ByteLevel"}},
      {"something behind ByteLevel",
       replace("/pre_tokenizer", sequence({byte_level, {{"type", "Digits"}}})),
       {"pre_tokenizer.pretokenizers[1].type", "'Digits'"}},
      {"an empty sequence", replace("/pre_tokenizer", sequence({})), {"pre_tokenizer"}},
      {"a bad pattern",
       replace("/pre_tokenizer", split_by("(a")),
       {"pre_tokenizer.pretokenizers[0].pattern", "'(' without ')'"}},
      {"a bad behavior", replace("/pre_tokenizer", split_by("a", "Kept")), {"pretokenizers[0].behavior", "Kept"}},
      {"no pattern",
       replace("/pre_tokenizer",
               sequence({{{"type", "Split"}, {"behavior", "Isolated"}, {"invert", false}}, byte_level})),
       {"pretokenizers[0].pattern", "missing"}},
      {"a pattern of another kind",
       replace("/pre_tokenizer",
               sequence({{{"type", "Split"}, {"pattern", {{"Glob", "*"}}}, {"behavior", "Isolated"}, {"invert", false}},
                         byte_level})),
       {"pattern.String", "missing"}},
      {"an added token without flags",
       replace("/added_tokens", {{{"id", 261}, {"content", "<s>"}}}),
       {"added_tokens[0].single_word", "missing"}},
      {"added tokens that share an id",
       json::array({replace("/model/vocab/hello", 261)[0],
                    replace("/added_tokens", {added_token("hello", 261), added_token("<s>", 262)})[0]}),
       {"added_tokens[1].id", "'<s>'", "261"}},
      {"an added token twice",
       replace("/added_tokens", {added_token("<s>", 261), added_token("<s>", 261)}),
       {"added_tokens[1].content", "twice"}},
      {"equal once normalized",
       json::array({replace("/normalizer", {{"type", "NFC"}})[0],
                    replace("/added_tokens", {added_token("ắ", 261, {{"normalized", true}}),
                                              added_token("a\u0306\u0301", 262, {{"normalized", true}})})[0]}),
       {"added_tokens[1].content"}},
      {"added tokens that are no list", replace("/added_tokens", 5), {"added_tokens", "a list"}},
      {"another post-processor", replace("/post_processor", {{"type", "Magic"}}), {"post_processor.type", "'Magic'"}},
      {"two templates",
       replace("/post_processor", {{"type", "Sequence"},
                                   {"processors",
                                    {{{"type", "TemplateProcessing"}, {"single", json::array()}},
                                     {{"type", "TemplateProcessing"}, {"single", json::array()}}}}}),
       {"post_processor.processors[1].type"}},
      {"a template of an unknown token",
       replace("/post_processor", {{"type", "TemplateProcessing"},
                                   {"single", {{{"SpecialToken", {{"id", "<s>"}}}}}},
                                   {"special_tokens", json::object()}}),
       {"post_processor.special_tokens.<s>", "missing"}},
      {"a template with an unknown id",
       replace("/post_processor", {{"type", "RobertaProcessing"}, {"cls", {"<s>", 999}}, {"sep", {"</s>", 1}}}),
       {"post_processor.type", "999"}},
      {"a template for pairs",
       replace("/post_processor", {{"type", "TemplateProcessing"}, {"single", {{{"Sequence", {{"id", "B"}}}}}}}),
       {"post_processor.single[0].Sequence.id"}},
      {"a malformed cls",
       replace("/post_processor", {{"type", "BertProcessing"}, {"cls", "<s>"}, {"sep", {"</s>", 1}}}),
       {"post_processor.cls"}},
  };
  for (const Refusal& refusal : refusals) {
    const std::string message = error_of([&] { tokenizer_of(small_tokenizer_json().patch(refusal.patch)); });
    EXPECT_TRUE(message.starts_with("tokenizer.json: ")) << refusal.what << ": " << message;
    for (const char* word : refusal.words) {
      EXPECT_NE(message.find(word), std::string::npos) << refusal.what << ": " << message;
    }
  }
}

TEST(Tokenizer, DeepNestingIsRefusedNotACrash) {
  json nested = small_tokenizer_json()["pre_tokenizer"];
  for (int depth = 0; depth < 300; ++depth) {
    nested = {{"type", "Sequence"}, {"pretokenizers", json::array({std::move(nested)})}};
  }
  json document = small_tokenizer_json();
  document["pre_tokenizer"] = std::move(nested);
  EXPECT_NE(error_of([&] { tokenizer_of(document); }).find("nested"), std::string::npos);
}

/// A folder that is gone after the test.
class TokenizerFolder : public ::testing::Test {
 protected:
  TokenizerFolder() { std::filesystem::create_directories(folder_); }
  ~TokenizerFolder() override { std::filesystem::remove_all(folder_); }
  void write(const char* name, const std::string& content) { std::ofstream(folder_ / name) << content; }

  const std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(TokenizerFolder, ReadsItsTokenizerJson) {
  write("tokenizer.json", small_tokenizer_json().dump());
  write("vocab.json", "{}");  // not looked at
  EXPECT_EQ(Tokenizer::from_folder(folder_).encode("hello"), Ids{259});
}

TEST_F(TokenizerFolder, NamesTheKindOfOtherTokenizers) {
  EXPECT_NE(error_of([&] { Tokenizer::from_folder(folder_); }).find("tokenizer.json"), std::string::npos);
  write("vocab.txt", "[PAD]");
  EXPECT_NE(error_of([&] { Tokenizer::from_folder(folder_); }).find("WordPiece"), std::string::npos);
  write("vocab.json", "{}");
  EXPECT_NE(error_of([&] { Tokenizer::from_folder(folder_); }).find("older form"), std::string::npos);
  write("tokenizer.model", "");
  EXPECT_NE(error_of([&] { Tokenizer::from_folder(folder_); }).find("SentencePiece"), std::string::npos);
}

TEST_F(TokenizerFolder, EveryTruncationIsRefused) {
  const std::string whole = small_tokenizer_json().dump();
  for (size_t size = 0; size < whole.size(); size += 1 + size / 50) {
    write("tokenizer.json", whole.substr(0, size));
    const std::string message = error_of([&] { Tokenizer::from_folder(folder_); });
    EXPECT_NE(message.find("tokenizer.json: "), std::string::npos) << size << ": " << message;
  }
}

}  // namespace
}  // namespace retrosparse
