#include "tasks/needle_pair.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "tasks/distinct_names.h"

namespace retrosparse {

NeedlePairs::NeedlePairs(TaskContext context, uint64_t seed, int64_t max_length)
    : context_(std::move(context)), seed_(seed), max_length_(max_length) {}

NeedlePair NeedlePairs::pair(int64_t length, int64_t document, int64_t needle) const {
  const TaskFormats& formats = *context_.formats;
  Random random{seed_, seed_of("needle pair"), static_cast<uint64_t>(document), static_cast<uint64_t>(needle)};
  DistinctNames names(formats, random);
  const std::string& statement = random.pick(formats.needles.statements);
  const std::vector<int64_t> tokens =
      context_.encode(fill_in(statement, {{"k", names.key()}, {"v", names.number(formats.value_digits)}}));

  NeedlePair pair{context_.beginning(), {}, {}};
  const auto needle_size = static_cast<int64_t>(tokens.size());
  const auto beginning = static_cast<int64_t>(pair.ids.size());
  const int64_t text_size = length - beginning - 2 * needle_size;
  if (length > max_length_) {
    throw Error("the length to profile at is beyond the model's context")
        .expected(fmt::format("at most {} tokens", max_length_))
        .found(fmt::format("{} tokens", length));
  }
  if (text_size <= kTextBefore) {
    throw Error("two needles do not fit into the length to profile at")
        .expected(fmt::format("more than {} tokens", beginning + kTextBefore + 2 * needle_size))
        .found(fmt::format("{} tokens", length));
  }
  Random text_random{seed_, seed_of("document of needle pairs"), static_cast<uint64_t>(document)};
  // The place in the text is drawn for the whole length, so that it does not depend on the needle's size.
  const std::vector<int64_t> text = context_.text->take(length, text_random).ids;
  const auto append = [&](auto begin, auto end) {
    const auto at = static_cast<int64_t>(pair.ids.size());
    pair.ids.insert(pair.ids.end(), begin, end);
    return TokenRange{at, static_cast<int64_t>(pair.ids.size())};
  };
  append(text.begin(), text.begin() + kTextBefore);
  pair.first = append(tokens.begin(), tokens.end());
  append(text.begin() + kTextBefore, text.begin() + text_size);
  pair.second = append(tokens.begin(), tokens.end());
  return pair;
}

}  // namespace retrosparse
