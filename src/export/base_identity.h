#pragma once
#include <string>

#include "base/json.h"
#include "checkpoint/checkpoint.h"

namespace retrosparse {

/// What tells a checkpoint from others: an XXH3-128 over config.json, and for each tensor in the order of names its
/// name, dtype, shape and data. How the tensors are spread over files makes no difference. Reads the whole checkpoint,
/// once, at the disk's speed.
std::string base_identity(const Checkpoint& checkpoint);

}  // namespace retrosparse
