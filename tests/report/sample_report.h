#pragma once
#include "report/report.h"

namespace retrosparse {

/// Made-up reports, to test the files and to look at the page: plausible numbers, none of them measured.
/// One with every section, of a model with `layers` layers of `heads` query heads in groups of four.
Report sample_report(int64_t layers = 6, int64_t heads = 8);

/// One of a training-free run: no steps, no tiles, no validation.
Report training_free_sample();

/// One that was validated on running text alone: no answers, no accuracy.
Report text_only_sample();

/// One that holds nothing but the model.
Report bare_sample();

}  // namespace retrosparse
