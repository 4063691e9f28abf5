#pragma once
#include "base/json.h"
#include "model/config.h"
#include "model/config_reader.h"

namespace retrosparse {

/// The rotary embedding that config.json describes, as transformers 4 writes it (rope_theta and rope_scaling) or
/// transformers 5 (one object rope_parameters with both). config.max_position_embeddings is known already. Throws Error
/// naming file and key for a kind that is not supported or a number that makes no sense.
RopeConfig read_rope(const JsonObject& json, const ConfigReader& reader, const ModelConfig& config);

}  // namespace retrosparse
