#pragma once
#include <optional>
#include <string>

#include "report/report.h"

namespace retrosparse {

/// What became of calibration's KL target on samples that calibration did not see. KL in nats a row, against the model
/// with dense retrieval heads. Where prompts are read by tiles, what that costs is in it: target and calibrated are
/// then the sums of those of the selection and of the tiles, which were calibrated one by one.
struct KlTargetOutcome {
  bool with_tiles = false;
  double target = 0;
  double calibrated = 0;  ///< of the chosen settings, on calibration's rows
  double validated = 0;   ///< of the converted model, on validation's rows; with sparse prefill where there is any
  bool met() const { return validated <= target; }
  /// The two differ by more than 2 times: calibration's rows do not speak for others.
  bool is_far_off() const;
};

/// Nothing where there was no target, for the tiles of prompts either, or where calibration or validation was not run.
std::optional<KlTargetOutcome> kl_target_outcome(const Report& report);

/// For the console, in thousandths: "KL target x1000 3.00: missed (168.42)", and what calibration had found where that
/// is far off.
std::string text_of(const KlTargetOutcome& outcome);

}  // namespace retrosparse
