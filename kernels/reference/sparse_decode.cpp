#include "retrosparse_kernels/sparse_decode.h"

#include <vector>

namespace retrosparse::kernels::reference {

void sparse_decode(const SparseDecodeParams& params) {
  DecodeAttentionParams attention = params.attention;
  const int64_t rows = int64_t{attention.batch} * attention.query_tokens * attention.num_heads;
  std::vector<float> lse(static_cast<size_t>(rows));

  DecodeAttentionParams local = attention;  // sinks and window; its output is written again below
  local.max_selected = 0;
  local.lse = lse.data();
  decode_attention(local);

  DecodeSelectionParams selection = params.selection;
  selection.lse_local = lse.data();
  decode_selection(selection);

  attention.selected = selection.selected;
  attention.selected_counts = selection.selected_counts;
  attention.max_selected = selection.max_selected;
  decode_attention(attention);
}

}  // namespace retrosparse::kernels::reference
