#pragma once
// What the decode operations want of a DecodeInput.
#include <string_view>

#include "ops/decode_attention.h"

namespace retrosparse::ops {

/// Rejects, in the name of `operation`, a cache, queries and a plan that do not fit together.
void check_decode(const DecodeInput& input, const AttentionPlan& plan, std::string_view operation);

}  // namespace retrosparse::ops
