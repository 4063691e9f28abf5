#include "data/corpus.h"

#include <fmt/format.h>

#include <set>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "data/document_reader.h"

namespace retrosparse {

namespace {

TokenizedDocument tokenize(const Document& document, const Tokenizer& tokenizer) {
  TokenizedDocument result;
  Hasher hasher;
  const auto append = [&](const std::string& text) {
    hasher.update(text);
    try {
      const std::vector<int64_t> ids = tokenizer.encode(text, {.add_special_tokens = false, .parse_special = true});
      result.ids.insert(result.ids.end(), ids.begin(), ids.end());
    } catch (Error& error) {
      throw error.file(document.origin);
    }
  };
  append(document.text);
  if (document.response) {
    hasher.update(std::string_view("\0", 1));  // a prompt and its response are not the text that they would make up
    result.response.begin = result.size();
    if (result.ids.empty()) {
      throw Error("the prompt has no tokens").file(document.origin);
    }
    append(*document.response);
    result.response.end = result.size();
  }
  result.origin = document.origin;
  result.digest = hasher.hex();
  return result;
}

}  // namespace

int64_t count_tokens(const Documents& documents) {
  int64_t tokens = 0;
  for (const auto& document : documents) {
    tokens += document->size();
  }
  return tokens;
}

std::string fingerprint_of(const Documents& documents) {
  Hasher hasher;
  for (const auto& document : documents) {
    hasher.update(document->digest).update(std::as_bytes(std::span(document->ids)));
  }
  return hasher.hex();
}

Documents tokenize_files(const std::vector<std::filesystem::path>& files, const Tokenizer& tokenizer) {
  Documents documents;
  for (const std::filesystem::path& path : files) {
    for (const std::filesystem::path& file : document_files(path)) {
      read_documents(file, [&](Document&& document) {
        documents.push_back(std::make_shared<const TokenizedDocument>(tokenize(document, tokenizer)));
      });
    }
  }
  return documents;
}

Corpus Corpus::read(const std::vector<TextSource>& sources, const Tokenizer& tokenizer, const HeldOutRule& held_out) {
  held_out.check();
  std::vector<Documents> documents;
  std::vector<std::string> digests;
  for (const TextSource& source : sources) {
    if (source.files.empty()) {
      throw Error(fmt::format("source '{}' names no files", source.name));
    }
    documents.push_back(tokenize_files(source.files, tokenizer));
    for (const auto& document : documents.back()) {
      digests.push_back(document->digest);
    }
  }
  const std::vector<bool> chosen = choose_held_out(digests, held_out);

  Corpus corpus;
  std::set<std::string_view> seen;
  size_t next = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    Documents& training = corpus.training_.emplace_back();
    for (const auto& document : documents[i]) {
      if (!chosen[next++]) {
        training.push_back(document);
      } else if (seen.insert(document->digest).second) {
        corpus.held_out_.push_back(document);
      }
    }
    if (training.empty()) {
      throw Error(fmt::format("source '{}': all {} documents are held out", sources[i].name, documents[i].size()))
          .hint("hold out fewer, or give the source more documents");
    }
    log_debug("{}: {} documents, {} tokens for training", sources[i].name, training.size(), count_tokens(training));
  }
  if (!corpus.held_out_.empty()) {
    log_debug("held out: {} documents, {} tokens", corpus.held_out_.size(), count_tokens(corpus.held_out_));
  }
  return corpus;
}

Documents Corpus::training() const {
  Documents all;
  for (const Documents& documents : training_) {
    all.insert(all.end(), documents.begin(), documents.end());
  }
  return all;
}

}  // namespace retrosparse
