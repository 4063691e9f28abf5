#pragma once
#include <limits>

namespace retrosparse {

/// The score of what may not be attended to.
inline constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

}  // namespace retrosparse
