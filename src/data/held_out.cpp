#include "data/held_out.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "base/error.h"

namespace retrosparse {

namespace {

/// A digest's first 64 bits as a fraction of what they could be: uniform over [0, 1).
double fraction_of(const std::string& digest) {
  uint64_t high = 0;
  std::from_chars(digest.data(), digest.data() + 16, high, 16);
  return static_cast<double>(high >> 11) * 0x1p-53;
}

}  // namespace

void HeldOutRule::check() const {
  if (!(share >= 0 && share < 1)) {
    throw Error("the share of held-out documents is impossible")
        .expected("0 <= share < 1")
        .found(fmt::format("{}", share));
  }
  if (count < 0) {
    throw Error("the number of held-out documents is impossible").expected("0 or more").found(std::to_string(count));
  }
  if (share > 0 && count > 0) {
    throw Error("held-out documents are given both as a share and as a number").expected("one of the two");
  }
}

std::vector<bool> choose_held_out(const std::vector<std::string>& digests, const HeldOutRule& rule) {
  rule.check();
  std::vector<bool> held_out(digests.size());
  if (rule.share == 0 && rule.count == 0) {
    return held_out;
  }
  const std::set<std::string> distinct(digests.begin(), digests.end());
  auto limit = distinct.begin();  // digests below it are held out
  if (rule.count > 0) {
    std::advance(limit, std::min(rule.count, static_cast<int64_t>(distinct.size())));
  } else {
    limit =
        std::ranges::find_if(distinct, [&](const std::string& digest) { return fraction_of(digest) >= rule.share; });
  }
  if (limit == distinct.begin()) {
    throw Error("no document is held out")
        .expected(fmt::format("about {:g}% of them", 100 * rule.share))
        .found(fmt::format("{} different documents, none of which was chosen", distinct.size()))
        .hint("hold out a number of documents instead, or give more of them");
  }
  if (limit == distinct.end()) {
    throw Error("every document is held out, none is left for training")
        .found(fmt::format("{} different documents", distinct.size()))
        .hint("hold out fewer, or give more of them");
  }
  for (size_t i = 0; i < digests.size(); ++i) {
    held_out[i] = digests[i] < *limit;
  }
  return held_out;
}

}  // namespace retrosparse
