#include "train/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace retrosparse {

std::string_view name_of(Schedule schedule) {
  switch (schedule) {
    case Schedule::kLinear:
      return "linear";
    case Schedule::kCosine:
      return "cosine";
    case Schedule::kConstant:
      break;
  }
  return "constant";
}

double LearningRate::at(int64_t step, int64_t total) const {
  if (step < warmup) {
    return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  }
  const double done =
      std::min(static_cast<double>(step - warmup) / static_cast<double>(std::max<int64_t>(total - warmup, 1)), 1.0);
  switch (schedule) {
    case Schedule::kLinear:
      return peak * (1 - done);
    case Schedule::kCosine:
      return peak * 0.5 * (1 + std::cos(std::numbers::pi * done));
    case Schedule::kConstant:
      break;
  }
  return peak;
}

}  // namespace retrosparse
