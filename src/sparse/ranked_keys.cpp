#include "sparse/ranked_keys.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace retrosparse {
namespace {

constexpr size_t kFirstStep = 64;
constexpr uint32_t kSign = 0x80000000U;

// Unsigned integers in the order of the floats: negative ones have all bits turned, the others their sign.
uint32_t ordered(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0F);  // -0 ties with 0
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

float unordered(uint32_t bits) {
  return std::bit_cast<float>((bits & kSign) != 0 ? bits & ~kSign : ~bits);
}

}  // namespace

void RankedKeys::add(float score, int64_t position) {
  keys_.push_back(uint64_t{ordered(score)} << 32 | (~static_cast<uint64_t>(position) & 0xffffffffU));
}

float RankedKeys::score(size_t rank) {
  return unordered(static_cast<uint32_t>(key(rank) >> 32));
}

void RankedKeys::sort_up_to(size_t rank) {
  while (sorted_ <= rank) {
    const size_t next = std::min(std::max(kFirstStep, 4 * sorted_), keys_.size());
    const auto begin = keys_.begin() + static_cast<std::ptrdiff_t>(sorted_);
    const auto end = keys_.begin() + static_cast<std::ptrdiff_t>(next);
    if (next < keys_.size()) {
      std::nth_element(begin, end, keys_.end(), std::greater<>());
    }
    std::sort(begin, end, std::greater<>());
    sorted_ = next;
  }
}

}  // namespace retrosparse
