#include "plan/stage_builder.h"

#include <algorithm>
#include <utility>

#include "plan/report.h"

namespace retrosparse {

StageBuilder::StageBuilder(std::string name, const ConversionPlan& plan) : plan_(plan) {
  cost_.name = std::move(name);
  held_.add("the program, before a model is loaded", plan.machine.base_bytes);
}

StageBuilder& StageBuilder::runs(double times, const Effort& effort) {
  cost_.flops += times * (effort.product_flops + effort.float32_flops);
  cost_.bytes += times * effort.bytes;
  cost_.launches += times * effort.launches;
  cost_.seconds += times * effort.seconds(plan_.machine);
  return *this;
}

StageBuilder& StageBuilder::reads(double tokens) {
  cost_.tokens += tokens;
  return *this;
}

StageBuilder& StageBuilder::holds(const std::string& what, double bytes) {
  held_.add(what, bytes);
  return *this;
}

StageBuilder& StageBuilder::holds_models(int count) {
  return holds(count == 1 ? "weights" : "weights of the dense and of the trained model", count * weight_bytes(plan_));
}

StageBuilder& StageBuilder::multiplies(int threads) {
  return holds("scratch of matrix products", threads * plan_.machine.product_scratch_bytes);
}

StageBuilder& StageBuilder::may_peak_at(const Moment& moment) {
  for (const MemoryTerm& term : moment.terms) {
    const auto known = std::ranges::find(every_term_, term.what, &MemoryTerm::what);
    if (known == every_term_.end()) {
      every_term_.push_back(term);
    } else {
      known->bytes = std::max(known->bytes, term.bytes);
    }
  }
  if (moment.bytes() > peak_.bytes()) {
    peak_ = moment;
  }
  return *this;
}

StageBuilder& StageBuilder::depends_on(std::string assumption) {
  cost_.assumption = std::move(assumption);
  return *this;
}

// The C library keeps in its heap what is freed of blocks up to 32 MiB, and tensors of another size hardly fit where
// they were: then all tensors of a stage add up, whether they live at the same time or not.
bool StageBuilder::keeps_what_is_freed() const {
  constexpr double kMostKept = 0x1p25;
  const double hidden_states = plan_.element_size * static_cast<double>(plan_.recipe.context_length) *
                               static_cast<double>(plan_.config.hidden_size);
  return plan_.machine.is_cpu && hidden_states <= kMostKept;
}

StageCost StageBuilder::build() {
  cost_.peak_at = peak_.name;
  held_.add(keeps_what_is_freed() ? Moment{peak_.name, every_term_} : peak_);
  cost_.peak_bytes = held_.bytes();
  cost_.terms = held_.terms;
  cost_.fits = cost_.peak_bytes <= kUsableMemory * plan_.machine.memory_bytes;
  return cost_;
}

}  // namespace retrosparse
