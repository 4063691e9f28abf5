#pragma once
#include "base/json.h"
#include "model/config_reader.h"
#include "model/family.h"

namespace retrosparse {

/// Throws Error naming file and key where config.json describes what the forward pass does not do: quantised weights,
/// layers with a sliding window of the model's own, another activation than SiLU.
void refuse_what_is_not_run(const JsonObject& json, const ConfigReader& reader, const Family& family);

}  // namespace retrosparse
