#include "data/packed_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/random.h"

namespace retrosparse {

PackedSource::PackedSource(std::string name, Documents documents, int64_t context_length, SpecialTokens special,
                           uint64_t seed)
    : name_(std::move(name)),
      documents_(std::move(documents)),
      context_length_(context_length),
      special_(std::move(special)),
      seed_(seed) {
  const int64_t tokens = count_tokens(documents_) + static_cast<int64_t>(documents_.size());
  leave_out_too_long();
  plan_epoch(0, 0);
  if (plan_.empty()) {
    throw Error(fmt::format("source '{}': the text is shorter than one sample", name_))
        .expected(fmt::format("at least {} tokens", context_length_))
        .found(fmt::format("{} tokens in {} documents", tokens, documents_.size()))
        .hint("give it more text or take a shorter context");
  }
}

void PackedSource::leave_out_too_long() {
  const int64_t longest = context_length_ - static_cast<int64_t>(special_.begin_of_text.size()) - 1;
  const auto too_long = [&](const auto& document) { return document->has_response() && document->size() > longest; };
  const auto example = std::ranges::find_if(documents_, too_long);
  if (example == documents_.end()) {
    return;
  }
  const std::string text = fmt::format("one at {} has {} tokens", (*example)->origin, (*example)->size());
  const size_t before = documents_.size();
  std::erase_if(documents_, too_long);
  if (documents_.empty()) {
    throw Error(fmt::format("source '{}': every prompt with its response is longer than the context", name_))
        .expected(fmt::format("at most {} tokens", longest))
        .found(text);
  }
  log_warning("source '{}': {} of {} documents are left out, since prompt and response do not fit into {} tokens; {}",
              name_, before - documents_.size(), before, context_length_, text);
}

void PackedSource::plan_epoch(int64_t epoch, int64_t first_index) {
  Random random{seed_, seed_of(name_), static_cast<uint64_t>(epoch)};
  std::vector<uint32_t> order(documents_.size());
  std::iota(order.begin(), order.end(), 0u);
  random.shuffle(order);
  plan_ = pack(documents_, order, context_length_, special_);
  random.shuffle(plan_);
  epoch_ = epoch;
  first_index_ = first_index;
}

Sample PackedSource::sample(int64_t index) {
  if (index < first_index_) {
    plan_epoch(0, 0);
  }
  while (index - first_index_ >= static_cast<int64_t>(plan_.size())) {
    plan_epoch(epoch_ + 1, first_index_ + static_cast<int64_t>(plan_.size()));
  }
  return assemble(documents_, plan_[static_cast<size_t>(index - first_index_)], context_length_, special_);
}

int64_t PackedSource::first_epoch_size() {
  if (epoch_ != 0) {
    plan_epoch(0, 0);
  }
  return static_cast<int64_t>(plan_.size());
}

std::string PackedSource::fingerprint() const {
  return hash_text(fmt::format("packed {} {} {} {} {} {}", name_, context_length_, seed_,
                               fmt::join(special_.begin_of_text, ","), special_.end_of_text,
                               fingerprint_of(documents_)));
}

}  // namespace retrosparse
