#include "data/corpus.h"

#include <set>

#include "base/testing.h"
#include "data/data_testing.h"

namespace retrosparse {
namespace {

std::string text_of(const TokenizedDocument& document) {
  return nano_tokenizer().decode(std::vector<int64_t>(document.ids.begin(), document.ids.end()));
}

std::set<std::string> texts_of(const Documents& documents) {
  std::set<std::string> texts;
  for (const auto& document : documents) {
    texts.insert(text_of(*document));
  }
  return texts;
}

/// Thirty short documents in json lines, and a file of two long ones.
class CorpusFiles : public testing::Test {
 protected:
  CorpusFiles() {
    std::string lines;
    for (int i = 0; i < 30; ++i) {
      lines += R"({"text": "The number of this line is )" + std::to_string(i) + "\"}\n";
    }
    put_file(folder_ / "a.jsonl", lines);
    put_file(folder_ / "b.txt", std::string("Of the one.\0Of the other.", 25));
  }

  Corpus read(const HeldOutRule& rule) {
    return Corpus::read({{"lines", {folder_ / "a.jsonl"}}, {"books", {folder_ / "b.txt"}}}, nano_tokenizer(), rule);
  }

  TempFolder folder_;
};

TEST_F(CorpusFiles, KeepsEveryDocumentOnOneSide) {
  const Corpus corpus = read({.share = 0.3});
  EXPECT_EQ(corpus.training(0).size() + corpus.training(1).size() + corpus.held_out().size(), 32u);
  EXPECT_EQ(corpus.training().size(), corpus.training(0).size() + corpus.training(1).size());
  const std::set<std::string> training = texts_of(corpus.training());
  EXPECT_EQ(texts_of(corpus.held_out()).size(), corpus.held_out().size());
  for (const std::string& text : texts_of(corpus.held_out())) {
    EXPECT_FALSE(training.contains(text)) << text;
  }
}

TEST_F(CorpusFiles, HoldsOutTheSameWhenFilesAreAddedAndRenamed) {
  const std::set<std::string> before = texts_of(read({.share = 0.3}).held_out());
  std::filesystem::rename(folder_ / "a.jsonl", folder_ / "renamed.jsonl");
  put_file(folder_ / "a.jsonl", "{\"text\": \"Something new.\"}\n");
  const Corpus corpus = Corpus::read({{"all", {folder_ / "b.txt", folder_ / "a.jsonl", folder_ / "renamed.jsonl"}}},
                                     nano_tokenizer(), {.share = 0.3});
  std::set<std::string> after = texts_of(corpus.held_out());
  after.erase("Something new.");
  EXPECT_EQ(after, before);
}

TEST_F(CorpusFiles, ACopyOfAHeldOutDocumentIsNotTrainedOn) {
  std::filesystem::copy(folder_ / "a.jsonl", folder_ / "c.jsonl");
  const Corpus corpus =
      Corpus::read({{"lines", {folder_ / "a.jsonl"}}, {"copy", {folder_ / "c.jsonl"}}}, nano_tokenizer(), {.count = 4});
  EXPECT_EQ(corpus.held_out().size(), 4u) << "each content once";
  EXPECT_EQ(corpus.training(0).size(), 26u);
  EXPECT_EQ(texts_of(corpus.training(0)), texts_of(corpus.training(1)));
}

TEST_F(CorpusFiles, TokenizesPromptAndResponseOnTheirOwn) {
  put_file(folder_ / "q.jsonl", "{\"prompt\": \"What is it?\", \"response\": \" A harbor.<|im_end|>\"}\n");
  const Documents documents = tokenize_files({folder_ / "q.jsonl"}, nano_tokenizer());
  ASSERT_EQ(documents.size(), 1u);
  const TokenizedDocument& document = *documents[0];
  const std::vector<int64_t> ids(document.ids.begin(), document.ids.end());
  std::vector<int64_t> expected = nano_tokenizer().encode("What is it?");
  EXPECT_EQ(document.response, (TokenRange{static_cast<int64_t>(expected.size()), document.size()}));
  const std::vector<int64_t> response = nano_tokenizer().encode(" A harbor.");
  expected.insert(expected.end(), response.begin(), response.end());
  expected.push_back(*nano_tokenizer().token_to_id("<|im_end|>"));
  EXPECT_EQ(ids, expected);
}

TEST_F(CorpusFiles, RefusesSourcesWithoutText) {
  const auto read_one = [&](const TextSource& source, const HeldOutRule& rule) {
    return error_of([&] { Corpus::read({source, {"lines", {folder_ / "a.jsonl"}}}, nano_tokenizer(), rule); });
  };
  EXPECT_TRUE(contains(read_one({"nothing", {}}, {}), "source 'nothing' names no files"));
  EXPECT_TRUE(contains(read_one({"gone", {folder_ / "gone.txt"}}, {}), "gone.txt: no such file"));
  put_file(folder_ / "one.jsonl", "{\"text\": \"The number of this line is 0\"}\n");
  int64_t count = 1;  // hold out so many that this one is among them
  while (!texts_of(read({.count = count}).held_out()).contains("The number of this line is 0")) {
    ++count;
  }
  EXPECT_TRUE(contains(read_one({"one", {folder_ / "one.jsonl"}}, {.count = count}),
                       "source 'one': all 1 documents are held out"));
}

TEST(SpecialTokens, AreThoseOfTheModel) {
  const std::string nano = std::string(RETROSPARSE_SOURCE_DIR) + "/examples/nano";
  const SpecialTokens special = SpecialTokens::of_model(nano, nano_tokenizer());
  EXPECT_TRUE(special.begin_of_text.empty());
  EXPECT_EQ(special.end_of_text, 0);
}

/// A byte-level tokenizer of one letter and three special tokens.
Tokenizer tiny_tokenizer(const std::string& end_of_text, const std::string& post_processor) {
  const std::string special = R"(, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
      "special": true})";
  return Tokenizer::from_json(JsonObject::parse(
      R"({"added_tokens": [{"id": 1, "content": "<bos>")" + special + R"(, {"id": 2, "content": ")" + end_of_text +
          "\"" + special + R"(], "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
      "trim_offsets": true, "use_regex": true}, "post_processor": )" +
          post_processor +
          R"(, "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})",
      "tokenizer.json"));
}

TEST(SpecialTokens, FindsWhatIsPutBeforeATextAndWhatEndsIt) {
  const std::string around = R"({"type": "TemplateProcessing", "single": [
      {"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
      {"SpecialToken": {"id": "<end>", "type_id": 0}}], "pair": [], "special_tokens": {
      "<bos>": {"id": "<bos>", "ids": [1], "tokens": ["<bos>"]},
      "<end>": {"id": "<end>", "ids": [2], "tokens": ["<end>"]}}})";
  const TempFolder folder;
  const auto end_by_config = [&](const std::string& config) {
    put_file(folder / "config.json", config);
    return SpecialTokens::of_model(folder.path(), tiny_tokenizer("<end>", around)).end_of_text;
  };
  EXPECT_EQ(end_by_config(R"({"eos_token_id": 2})"), 2);
  EXPECT_EQ(end_by_config(R"({"eos_token_id": [1, 2]})"), 1);
  EXPECT_EQ(SpecialTokens::of_model(folder.path(), tiny_tokenizer("<end>", around)).begin_of_text,
            std::vector<int64_t>{1});
  EXPECT_TRUE(contains(error_of([&] { end_by_config("{}"); }), "config.json: key 'eos_token_id': missing"));
  EXPECT_TRUE(contains(error_of([&] { end_by_config(R"({"eos_token_id": []})"); }), "at least one token id"));
  EXPECT_EQ(SpecialTokens::of_model("no such folder", tiny_tokenizer("<|endoftext|>", "null")).end_of_text, 2);
}

}  // namespace
}  // namespace retrosparse
