#include "sm90/decode_validity.h"

#include <algorithm>
#include <cmath>

#include "sm90/decode_plan.h"

namespace retrosparse::kernels::sm90 {

int32_t count_selected_heads(const DecodeAttentionParams& params) {
  return static_cast<int32_t>(std::count(params.head_modes, params.head_modes + params.num_heads, HeadMode::kSelected));
}

bool has_valid_shape(const DecodeAttentionParams& params) {
  const bool valid = params.batch >= 0 && params.query_tokens >= 1 && params.query_tokens <= 8 &&
                     params.num_heads > 0 && params.num_heads <= kDecodeMaxHeads && params.num_key_value_heads > 0 &&
                     params.num_heads % params.num_key_value_heads == 0 &&
                     (params.head_dim == 64 || params.head_dim == 128) && params.dtype == Dtype::kBfloat16 &&
                     params.max_keys >= params.query_tokens && params.window >= 1 && params.sink_tokens >= 0 &&
                     params.max_selected >= 0 && params.head_modes != nullptr && params.part <= DecodePart::kSelected;
  if (!valid) {
    return false;
  }
  const int64_t row_tiles =
      (int64_t{params.num_heads} / params.num_key_value_heads * params.query_tokens + kDecodeRows - 1) / kDecodeRows;
  return std::all_of(params.head_modes, params.head_modes + params.num_heads,
                     [](HeadMode mode) { return mode <= HeadMode::kSelected; }) &&
         params.batch <= 65535 && params.batch * params.num_key_value_heads * row_tiles <= kDecodeMaxPairs;
}

bool is_valid(const DecodeAttentionParams& params) {
  if (!has_valid_shape(params) || !(params.softmax_scale > 0) || !std::isfinite(params.softmax_scale)) {
    return false;
  }
  const bool selects =
      count_selected_heads(params) > 0 &&
      (params.part == DecodePart::kSelected || (params.part == DecodePart::kAll && params.max_selected > 0));
  const bool hands_over = params.part != DecodePart::kAll;
  const KeyValueCache& cache = params.cache;
  const auto is_aligned = [](const void* pointer) {
    return pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  };
  return is_aligned(params.q) && is_aligned(params.o) && is_aligned(cache.k) && is_aligned(cache.v) &&
         is_aligned(params.workspace) && params.key_counts != nullptr && cache.sequence_stride % 8 == 0 &&
         cache.token_stride % 8 == 0 && cache.head_stride % 8 == 0 &&
         (cache.page_table == nullptr || (cache.page_size > 0 && (cache.page_size & (cache.page_size - 1)) == 0)) &&
         (!selects || (params.selected != nullptr && params.selected_counts != nullptr)) &&
         (!hands_over || (params.o_float != nullptr && params.lse != nullptr));
}

}  // namespace retrosparse::kernels::sm90
