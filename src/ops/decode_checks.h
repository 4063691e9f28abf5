#pragma once
// What the decode operations want of a DecodeInput, and of their workspaces.
#include <string_view>

#include "ops/decode_attention.h"

namespace retrosparse::ops {

/// Rejects, in the name of `operation`, a cache, queries and a plan that do not fit together.
void check_decode(const DecodeInput& input, const AttentionPlan& plan, std::string_view operation);

/// Makes `buffer` hold `bytes` on the device of `like`, of which the kernels want the first `zeroed` zero at the start.
void reserve(at::Tensor& buffer, size_t bytes, size_t zeroed, const at::Tensor& like);

}  // namespace retrosparse::ops
