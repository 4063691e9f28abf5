#include "data/crop_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/random.h"

namespace retrosparse {

CropSource::CropSource(std::string name, Documents documents, int64_t context_length, SpecialTokens special,
                       uint64_t seed)
    : name_(std::move(name)),
      pool_(std::move(documents), std::move(special)),
      context_length_(context_length),
      seed_(seed) {
  const auto answered = std::ranges::find_if(pool_.documents(), [](const auto& one) { return one->has_response(); });
  if (answered != pool_.documents().end()) {
    throw Error(fmt::format("source '{}': random crops need running text", name_))
        .file((*answered)->origin)
        .found("a prompt with its response")
        .hint("pack this source instead");
  }
  if (pool_.num_tokens() < context_length_) {
    throw Error(fmt::format("source '{}': the text is shorter than one sample", name_))
        .expected(fmt::format("at least {} tokens", context_length_))
        .found(fmt::format("{} tokens in {} documents", pool_.num_tokens(), pool_.documents().size()))
        .hint("give it more text or take a shorter context");
  }
}

Sample CropSource::sample(int64_t index) {
  Random random{seed_, seed_of(name_), static_cast<uint64_t>(index)};
  const std::vector<int64_t>& prefix = pool_.special().begin_of_text;
  const auto shift = static_cast<int64_t>(prefix.size());
  Sample sample = pool_.take(context_length_ - shift, random);
  sample.ids.insert(sample.ids.begin(), prefix.begin(), prefix.end());
  std::for_each(sample.document_starts.begin() + 1, sample.document_starts.end(),
                [&](int64_t& start) { start += shift; });
  return sample;
}

std::string CropSource::fingerprint() const {
  const SpecialTokens& special = pool_.special();
  return hash_text(fmt::format("crops {} {} {} {} {} {}", name_, context_length_, seed_,
                               fmt::join(special.begin_of_text, ","), special.end_of_text,
                               fingerprint_of(pool_.documents())));
}

}  // namespace retrosparse
