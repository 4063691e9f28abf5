#include "sm90/launch_splits.h"

#include <algorithm>

namespace retrosparse::kernels::sm90 {
namespace {

int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

int64_t splits_of(const SplitKind& kind, int64_t size) {
  return kind.runs > 0 && kind.length > 0 ? std::min({divide_up(kind.length, size), kind.most, int64_t{kMaxSplits}})
                                          : 0;
}

}  // namespace

void choose_splits(std::span<SplitKind> kinds, int64_t slots) {
  constexpr int64_t kBlockOverhead = 128;
  constexpr int64_t kLeast = 64;
  int64_t longest_run = 0;
  for (const SplitKind& kind : kinds) {
    longest_run = std::max(longest_run, kind.length);
  }
  int64_t best_cost = INT64_MAX;
  int64_t best_size = kLeast;
  for (int64_t size = kLeast; size < 2 * (longest_run + kLeast); size += std::max<int64_t>(8, size / 32)) {
    int64_t blocks = 0;
    int64_t longest = 0;
    for (const SplitKind& kind : kinds) {
      if (const int64_t splits = splits_of(kind, size); splits > 0) {
        blocks += kind.runs * splits;
        longest = std::max(longest, divide_up(kind.length, splits));
      }
    }
    const int64_t cost = divide_up(blocks, slots) * (longest + kBlockOverhead);
    if (cost < best_cost) {
      best_cost = cost;
      best_size = size;
    }
  }
  for (SplitKind& kind : kinds) {
    kind.splits = static_cast<int32_t>(splits_of(kind, best_size));
  }
}

}  // namespace retrosparse::kernels::sm90
