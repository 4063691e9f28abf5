#pragma once
#include <cmath>
#include <random>

#include "report/report.h"

namespace retrosparse {

/// Not std::normal_distribution: its numbers depend on the library, these do not.
class Noise {
 public:
  double uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }
  double about(double value, double spread) { return value * std::exp(spread * (2 * uniform() - 1)); }

 private:
  std::mt19937_64 random_{7};
};

/// Parts of sample_report().
Report::Selection sample_selection(const Report::Profile& profile, Noise& noise);
Report::Prefill sample_prefill();

}  // namespace retrosparse
