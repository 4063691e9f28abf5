#pragma once
#include <cstdint>
#include <string_view>

namespace retrosparse {

/// What follows the warm-up. The paper (arXiv 2605.16928) has a constant rate in stage 2.
enum class Schedule {
  kConstant,
  kLinear,  ///< down to 0 at the end
  kCosine,  ///< half a cosine, down to 0 at the end
};

/// "constant", "linear" or "cosine".
std::string_view name_of(Schedule schedule);

/// The learning rate of a run.
struct LearningRate {
  double peak = 1e-3;
  int64_t warmup = 0;  ///< steps of a linear rise
  Schedule schedule = Schedule::kConstant;

  /// Of step 0, 1, ..., total - 1.
  double at(int64_t step, int64_t total) const;
};

}  // namespace retrosparse
