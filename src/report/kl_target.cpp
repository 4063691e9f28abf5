#include "report/kl_target.h"

#include <fmt/format.h>

#include <algorithm>

namespace retrosparse {

bool KlTargetOutcome::is_far_off() const {
  return std::max(calibrated, validated) > 2 * std::min(calibrated, validated);
}

std::optional<KlTargetOutcome> kl_target_outcome(const Report& report) {
  const auto& selection = report.selection;
  if (!selection || !selection->chosen || !(selection->kl_target > 0) || !report.validation) {
    return std::nullopt;
  }
  const auto& sparse = report.validation->variants.sparse;
  if (!sparse || !sparse->kl_plan) {
    return std::nullopt;
  }
  KlTargetOutcome outcome{
      .target = selection->kl_target, .calibrated = selection->chosen->kl, .validated = *sparse->kl_plan};
  if (const auto& prefill = report.prefill; prefill && prefill->mode == "tiles") {
    if (!prefill->kl_target) {
      return std::nullopt;  // validation measures the loss of the tiles too, which nobody gave a target
    }
    outcome.with_tiles = true;
    outcome.target += *prefill->kl_target;
    outcome.calibrated += prefill->chosen ? prefill->chosen->kl : 0;
  }
  return outcome;
}

std::string text_of(const KlTargetOutcome& outcome) {
  std::string text =
      fmt::format("KL target{} x1000 {:.2f}: {} ({:.2f})", outcome.with_tiles ? " of selection and tiles" : "",
                  1000 * outcome.target, outcome.met() ? "met" : "missed", 1000 * outcome.validated);
  if (outcome.is_far_off()) {
    text += fmt::format(
        "; calibration had found {:.2f}, more than 2 times off: let it see more samples "
        "(calibrate.samples)",
        1000 * outcome.calibrated);
  }
  return text;
}

}  // namespace retrosparse
