#pragma once
#include <string>
#include <vector>

#include "plan/conversion.h"
#include "plan/memory.h"
#include "plan/work.h"

namespace retrosparse {

/// Puts a stage's cost together: what runs how often, what is held all the time, and the moments of which one is its
/// peak.
class StageBuilder {
 public:
  StageBuilder(std::string name, const ConversionPlan& plan);

  StageBuilder& runs(double times, const Effort& effort);
  StageBuilder& reads(double tokens);
  StageBuilder& holds(const std::string& what, double bytes);
  StageBuilder& holds_models(int count);

  /// The library of matrix products keeps scratch for each thread that has called it: ours, and from the first gradient
  /// on that of backward.
  StageBuilder& multiplies(int threads = 2);

  StageBuilder& may_peak_at(const Moment& moment);
  StageBuilder& depends_on(std::string assumption);

  StageCost build();

 private:
  bool keeps_what_is_freed() const;

  const ConversionPlan& plan_;
  StageCost cost_;
  Moment held_, peak_;
  std::vector<MemoryTerm> every_term_;  // of all moments, each as large as it gets
};

}  // namespace retrosparse
