#pragma once
// How the keys of a launch are cut so that its blocks fill the device evenly. Plain C++ for launchers and tests.
#include <cstdint>
#include <span>

namespace retrosparse::kernels::sm90 {

inline constexpr int32_t kMaxSplits = 128;  ///< of a run

/// Work of one kind: `runs` runs of `length` each, in units of kSplitUnitBytes that are read. A run is cut into
/// `splits` blocks of work: 0 where there is none, at most `most`.
struct SplitKind {
  int64_t runs = 0;
  int64_t length = 0;
  int64_t most = kMaxSplits;
  int32_t splits = 0;
};
inline constexpr int64_t kSplitUnitBytes = 512;

/// Sets the splits with the least estimated time where `slots` blocks run at a time: waves, each as long as its longest
/// block plus what starting and finishing a block costs.
void choose_splits(std::span<SplitKind> kinds, int64_t slots);

}  // namespace retrosparse::kernels::sm90
