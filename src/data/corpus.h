#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/held_out.h"
#include "data/sample.h"
#include "data/special_tokens.h"
#include "text/tokenizer.h"

namespace retrosparse {

/// Where training text comes from.
struct TextSource {
  std::string name;
  std::vector<std::filesystem::path> files;  ///< files or folders, see document_files()
};

/// A document as token ids, without special tokens around them.
struct TokenizedDocument {
  std::vector<uint32_t> ids;
  TokenRange response;  ///< what a model is to answer, empty in running text; never begins at 0
  std::string origin;   ///< see Document
  std::string digest;   ///< of the content, see base/hash.h

  int64_t size() const { return static_cast<int64_t>(ids.size()); }
  bool has_response() const { return response.size() > 0; }
};

/// Documents that are shared, not copied.
using Documents = std::vector<std::shared_ptr<const TokenizedDocument>>;

/// The number of tokens of some documents.
int64_t count_tokens(const Documents& documents);

/// A digest of some documents and their order, tokens included.
std::string fingerprint_of(const Documents& documents);

/// The documents of all sources, read and tokenized once and kept in memory (4 bytes a token), those for training apart
/// from those that are held out. Prompts and responses are tokenized on their own; special tokens that are spelt out in
/// a text are taken for such.
class Corpus {
 public:
  /// Error: as document_files, read_documents, HeldOutRule::check and choose_held_out; a source without files, or
  /// without a document left for training.
  static Corpus read(const std::vector<TextSource>& sources, const Tokenizer& tokenizer, const HeldOutRule& held_out);

  /// The documents of one source to train on, in the order of the files; by the source's place in the list.
  const Documents& training(size_t source) const { return training_.at(source); }

  /// The documents of all sources to train on, source by source.
  Documents training() const;

  /// The held-out documents of all sources. Each content occurs once, whatever copies there are.
  const Documents& held_out() const { return held_out_; }

 private:
  std::vector<Documents> training_;
  Documents held_out_;
};

/// All documents of some files or folders, tokenized. Error: as document_files and read_documents.
Documents tokenize_files(const std::vector<std::filesystem::path>& files, const Tokenizer& tokenizer);

}  // namespace retrosparse
