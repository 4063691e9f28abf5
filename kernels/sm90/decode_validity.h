#pragma once
// What the launches of decode attention check before anything else.
#include "retrosparse_kernels/decode_attention.h"

namespace retrosparse::kernels::sm90 {

int32_t count_selected_heads(const DecodeAttentionParams& params);

/// Whether everything but pointers and strides can be right.
bool has_valid_shape(const DecodeAttentionParams& params);

/// Whether all of it can.
bool is_valid(const DecodeAttentionParams& params);

}  // namespace retrosparse::kernels::sm90
