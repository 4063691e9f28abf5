#pragma once
// What the decode operations share.
#include <functional>
#include <string_view>

#include "ops/decode_attention.h"

namespace retrosparse::ops {

/// Rejects, in the name of `operation`, a cache, queries and a plan that do not fit together.
void check_decode(const DecodeInput& input, const AttentionPlan& plan, std::string_view operation);

/// decode_resident() beside the first half of a selection, which start_selection() launches: called when all memory is
/// there, so that the attention comes right behind it.
DecodeOutput decode_resident_beside(const DecodeInput& input, const AttentionPlan& plan, DecodeWorkspace& workspace,
                                    const std::function<void()>& start_selection);

}  // namespace retrosparse::ops
