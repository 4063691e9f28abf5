#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/sample.h"

namespace retrosparse {

/// A sequence of which some tokens are to be predicted.
struct TaskSample {
  std::string task;
  int64_t index = 0;  ///< which sample of the task
  uint64_t seed = 0;
  std::vector<int64_t> ids;  ///< of the asked length, question and answers included
  /// The tokens that are scored, teacher forced: that at position t is predicted by row t - 1. Ascending and apart from
  /// each other; one range for each answer; none begins at 0.
  std::vector<TokenRange> answers;

  int64_t length() const { return static_cast<int64_t>(ids.size()); }
};

}  // namespace retrosparse
