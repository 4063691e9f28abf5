#pragma once
#include <cstdint>
#include <vector>

#include "data/sample.h"
#include "tasks/task_builder.h"

namespace retrosparse {

/// A document with the same needle near its start and at its end, to see which heads look back from one to the other.
struct NeedlePair {
  std::vector<int64_t> ids;
  TokenRange first, second;  ///< the same tokens, one by one; `second` ends where ids does
};

/// Needle pairs, each of which is a function of seed, length, document and needle.
class NeedlePairs {
 public:
  /// So many tokens of running text stand before the first needle: attention to the first tokens of a sequence (sinks)
  /// has nothing to do with what they say.
  static constexpr int64_t kTextBefore = 64;

  NeedlePairs(TaskContext context, uint64_t seed, int64_t max_length);

  /// A pair in `length` tokens. The same `document` with another `needle` has the same running text, but for its ends,
  /// as needles differ in length. Error: length above max_length, too short for two needles, or too little text.
  NeedlePair pair(int64_t length, int64_t document, int64_t needle) const;

 private:
  TaskContext context_;
  uint64_t seed_;
  int64_t max_length_;
};

}  // namespace retrosparse
