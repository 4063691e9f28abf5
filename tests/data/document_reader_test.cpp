#include "data/document_reader.h"

#include "base/testing.h"
#include "data/packed_bytes.h"

namespace retrosparse {
namespace {

using std::string_literals::operator""s;

class DocumentReader : public testing::Test {
 protected:
  std::vector<Document> read(const std::string& name, std::string_view content) {
    put_file(folder_ / name, content);
    std::vector<Document> documents;
    read_documents(folder_ / name, [&](Document&& document) { documents.push_back(std::move(document)); });
    return documents;
  }

  std::vector<std::string> texts(const std::string& name, std::string_view content) {
    std::vector<std::string> result;
    for (const Document& document : read(name, content)) {
      EXPECT_FALSE(document.response);
      result.push_back(document.text);
    }
    return result;
  }

  std::string error(const std::string& name, std::string_view content) {
    return error_of([&] { read(name, content); });
  }

  using Texts = std::vector<std::string>;
  TempFolder folder_;
};

TEST_F(DocumentReader, SplitsPlainTextAtNul) {
  EXPECT_EQ(texts("a.txt", "one\ntwo\n"), Texts{"one\ntwo\n"});
  EXPECT_EQ(texts("a.txt", "one\0two\0"s), (Texts{"one", "two"}));
  EXPECT_EQ(texts("a.txt", "\0\0one\0 \n\0two"s), (Texts{"one", "two"})) << "empty documents are skipped";
  EXPECT_EQ(texts("notes", "any name will do"), Texts{"any name will do"});
  EXPECT_EQ(texts("a.txt", "\xEF\xBB\xBFone"), Texts{"one"}) << "a byte order mark is dropped";
  EXPECT_EQ(texts("a.txt", "one\0\xEF\xBB\xBFtwo"s), (Texts{"one", "\xEF\xBB\xBFtwo"})) << "only at the beginning";
  const std::string longer(1'000'000, 'x');  // than the reader's buffer
  EXPECT_EQ(texts("a.txt", longer + "\0y"s), (Texts{longer, "y"}));
}

TEST_F(DocumentReader, ReadsJsonLines) {
  const std::vector<Document> documents =
      read("a.jsonl",
           "{\"text\": \"one\\n\\u00e9\", \"source\": 7}\n\n{\"prompt\": \"p\", \"response\": \"r\"}\r\n"
           "{\"text\": \"\"}\n{\"text\": \"last\"}");
  ASSERT_EQ(documents.size(), 3u);
  EXPECT_EQ(documents[0].text, "one\n\u00e9");
  EXPECT_EQ(documents[1].text, "p");
  EXPECT_EQ(documents[1].response, "r");
  EXPECT_EQ(documents[2].text, "last");
  EXPECT_EQ(documents[1].origin, (folder_ / "a.jsonl").string() + ":3");
}

TEST_F(DocumentReader, UnpacksByNameAndContent) {
  EXPECT_EQ(texts("a.txt.xz", pack_xz("one\0two"s)), (Texts{"one", "two"}));
  EXPECT_EQ(texts("a.jsonl.gz", pack_gzip("{\"text\": \"one\"}\n")), Texts{"one"});
  EXPECT_EQ(texts("a.ndjson.zst", pack_zstd("{\"text\": \"one\"}\n")), Texts{"one"});
  EXPECT_EQ(texts("a.jsonl", pack_zstd("{\"text\": \"one\"}\n")), Texts{"one"});
}

TEST_F(DocumentReader, RefusesWhatIsNoDocument) {
  EXPECT_TRUE(contains(error("a.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\"}\n"), "a.jsonl:2: not a document"));
  EXPECT_TRUE(contains(error("a.jsonl", "{\"body\": \"b\"}\n"), "found the keys 'body'"));
  EXPECT_TRUE(contains(error("a.jsonl", "{\"text\": \"a\", \"response\": \"b\"}\n"), "a.jsonl:1: not a document"));
  EXPECT_TRUE(contains(error("a.jsonl", "{\"prompt\": \"a\"}\n"), "a.jsonl:1: not a document"));
  EXPECT_TRUE(contains(error("a.jsonl", "{\"text\": 7}\n"), "a.jsonl:1: key 'text'"));
  EXPECT_TRUE(contains(error("a.jsonl", "{\"text\": null}\n"), "a.jsonl:1: not a document"));
  EXPECT_TRUE(
      contains(error("a.jsonl", "{\"prompt\": \"a\", \"response\": \"\"}\n"), "a.jsonl:1: key 'response': is empty"));
  EXPECT_TRUE(
      contains(error("a.jsonl", "{\"prompt\": \"\", \"response\": \"a\"}\n"), "a.jsonl:1: key 'prompt': is empty"));
  EXPECT_TRUE(contains(error("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"\n"), "a.jsonl:2: "));
  EXPECT_TRUE(contains(error("a.jsonl", "[\"text\"]\n"), "a.jsonl:1: "));
  EXPECT_TRUE(contains(error("a.jsonl", "{\"text\": \"\\ud800\"}\n"), "a.jsonl:1: ")) << "half a surrogate pair";
}

TEST_F(DocumentReader, RefusesWhatIsNotUtf8) {
  const std::string message = error("a.txt", "one\0two\nthr\xE9\x65"s);
  EXPECT_TRUE(contains(message, "a.txt:2: not UTF-8: found byte 0xE9 at offset 11"));
  EXPECT_TRUE(contains(error("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\xFF\"}\n"),
                       "a.jsonl:2: not UTF-8: found byte 0xFF at offset 24"));
  EXPECT_TRUE(contains(error("a.txt", "\xFF\xFEo\0n\0"s), "not UTF-8")) << "UTF-16";
  EXPECT_TRUE(contains(error("a.txt.gz", pack_gzip("caf\xE9")), "a.txt.gz:1: not UTF-8: found byte 0xE9 at offset 3"));
}

TEST_F(DocumentReader, RefusesFilesWithoutText) {
  EXPECT_TRUE(contains(error("a.txt", ""), "a.txt: the file is empty"));
  EXPECT_TRUE(contains(error("a.txt", "\0 \n\0"s), "a.txt: no document with a text is in it"));
  EXPECT_TRUE(contains(error("a.jsonl", "\n\n"), "a.jsonl: no document"));
  EXPECT_TRUE(contains(error("a.jsonl", "{\"text\": \"\"}\n"), "a.jsonl: no document"));
  EXPECT_TRUE(contains(error("a.txt.xz", pack_xz("")), "a.txt.xz: the file is empty"));
  EXPECT_TRUE(contains(error("a.json", "{\"text\": \"a\"}"), "'.json' files cannot be read as text"));
  EXPECT_TRUE(contains(error("a.tar.gz", pack_gzip("a")), "'.tar' files cannot be read as text"));
  EXPECT_TRUE(contains(error_of([&] { read_documents(folder_ / "gone.txt", [](Document&&) {}); }), "No such file"));
}

TEST_F(DocumentReader, ListsFolders) {
  std::filesystem::create_directories(folder_ / "b/c");
  for (const char* name : {"z.txt", "b/y.jsonl.zst", "b/c/x.txt.xz", "README.md", "b/data.bin"}) {
    put_file(folder_ / name, "text");
  }
  EXPECT_EQ(
      document_files(folder_.path()),
      (std::vector<std::filesystem::path>{folder_ / "b/c/x.txt.xz", folder_ / "b/y.jsonl.zst", folder_ / "z.txt"}));
  EXPECT_EQ(document_files(folder_ / "README.md"), std::vector{folder_ / "README.md"});
  EXPECT_TRUE(contains(error_of([&] { document_files(folder_ / "gone"); }), "gone: no such file or folder"));
  std::filesystem::create_directory(folder_ / "empty");
  EXPECT_TRUE(contains(error_of([&] { document_files(folder_ / "empty"); }), "no file in this folder"));
}

}  // namespace
}  // namespace retrosparse
