#pragma once
#include <memory>
#include <string>

#include "data/corpus.h"
#include "data/special_tokens.h"
#include "tasks/task_builder.h"

namespace retrosparse {

inline std::string nano_folder() {
  return std::string(RETROSPARSE_SOURCE_DIR) + "/examples/nano";
}

/// The tokenizer of examples/nano and a little text of `words` words in documents of a hundred.
inline TaskContext make_context(int64_t words = 20'000, const TaskFormats& formats = TaskFormats::builtin()) {
  static const Tokenizer tokenizer = Tokenizer::from_folder(nano_folder());
  Documents documents;
  for (int64_t begin = 0; begin < words; begin += 100) {
    std::string text;
    for (int64_t i = begin; i < std::min(begin + 100, words); ++i) {
      text += " word" + std::to_string(i);
    }
    TokenizedDocument document;
    const std::vector<int64_t> ids = tokenizer.encode(text);
    document.ids.assign(ids.begin(), ids.end());
    documents.push_back(std::make_shared<const TokenizedDocument>(document));
  }
  const SpecialTokens special = SpecialTokens::of_model(nano_folder(), tokenizer);
  return {tokenizer, std::make_shared<const TextPool>(documents, special),
          std::make_shared<const TaskFormats>(formats)};
}

inline std::string decode(const TaskContext& context, const std::vector<int64_t>& ids, TokenRange range) {
  return context.tokenizer.decode({ids.data() + range.begin, static_cast<size_t>(range.size())});
}

inline std::string decode(const TaskContext& context, const std::vector<int64_t>& ids) {
  return decode(context, ids, {0, static_cast<int64_t>(ids.size())});
}

}  // namespace retrosparse
