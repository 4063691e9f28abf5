#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "plan/conversion.h"

namespace retrosparse::cli {

/// What `plan --recipe` is told.
struct ConversionArguments {
  std::string recipe;
  std::vector<std::string> settings;  ///< --set
  std::string head_plan;              ///< profile/head_plan.json of a conversion
  int64_t prefill_chunk = 4096;
};

/// Predicts the stages of a recipe on the GPU of this name, or where it is empty on this machine's CPU. `dtype`: as
/// --dtype says, "auto" being what `convert` takes there.
void run_conversion_plan(const std::string& model, const ConversionArguments& arguments, const std::string& dtype,
                         const std::string& gpu, bool json);

}  // namespace retrosparse::cli
