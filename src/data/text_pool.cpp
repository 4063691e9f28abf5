#include "data/text_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace retrosparse {

TextPool::TextPool(Documents documents, SpecialTokens special)
    : documents_(std::move(documents)), special_(std::move(special)) {
  int64_t total = 0;
  for (const auto& document : documents_) {
    total += document->size() + 1 + static_cast<int64_t>(special_.begin_of_text.size());
    ends_.push_back(total);
  }
  if (count_tokens(documents_) == 0) {
    throw Error("there is no text to take running text from");
  }
}

Sample TextPool::take(int64_t length, Random& random) const {
  if (length > num_tokens()) {
    throw Error("there is too little running text")
        .expected(fmt::format("at least {} tokens", length))
        .found(fmt::format("{} tokens in {} documents", num_tokens(), documents_.size()))
        .hint("give more text or take a shorter length");
  }
  const auto place = static_cast<int64_t>(random.below(static_cast<uint64_t>(num_tokens())));
  auto index = static_cast<size_t>(std::ranges::upper_bound(ends_, place) - ends_.begin());
  Sample sample;
  sample.document_starts = {0};
  sample.ids.reserve(static_cast<size_t>(length));
  const auto append = [&](const TokenizedDocument& document, int64_t begin) {
    const int64_t count = std::min(document.size() - begin, length - static_cast<int64_t>(sample.ids.size()));
    const auto first = document.ids.begin() + begin;
    sample.ids.insert(sample.ids.end(), first, first + count);
  };
  const int64_t spare = documents_[index]->size() - length;
  append(*documents_[index], spare > 0 ? random.between(0, spare) : 0);
  while (static_cast<int64_t>(sample.ids.size()) < length) {
    index = (index + 1) % documents_.size();
    sample.ids.push_back(special_.end_of_text);
    sample.document_starts.push_back(static_cast<int64_t>(sample.ids.size()));
    sample.ids.insert(sample.ids.end(), special_.begin_of_text.begin(), special_.begin_of_text.end());
    append(*documents_[index], 0);
  }
  sample.ids.resize(static_cast<size_t>(length));
  if (sample.document_starts.back() == length) {
    sample.document_starts.pop_back();  // the last token is the end of a text
  }
  return sample;
}

}  // namespace retrosparse
