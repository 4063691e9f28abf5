#pragma once
#include <vector>

#include "convert/workspace.h"
#include "report/report.h"
#include "sparse/sparse_attention.h"

namespace retrosparse {

/// Generates from the beginning of `ids`, one whole sample, as the recipe's validate.speed_tokens and speed_runs say,
/// and adds the speeds of the dense and of the converted model to `validation`, whose measurements of both are there.
void measure_speed(Workspace& workspace, const SparseModel& sparse, const std::vector<int64_t>& ids,
                   Report::Validation& validation);

}  // namespace retrosparse
