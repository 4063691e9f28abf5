#pragma once
#include <ATen/core/Tensor.h>
#include <retrosparse_kernels/decode_selection.h>

#include <vector>

#include "model/attention.h"
#include "model/planned_attention.h"
#include "ops/decode_attention.h"
#include "sparse/indexer.h"
#include "sparse/selection.h"
#include "sparse/tail_attention.h"

namespace retrosparse {

/// The kernels' name for a layer's settings, one for each head; empty where they do not know the rule (paper) or such
/// a large cap.
std::vector<kernels::SelectionRule> kernel_rules(SelectionRule rule, const std::vector<GateSettings>& gates);

/// Whether attend_by_index() can run such rows on the GPU's kernels: what ops::serves_decode() wants, and an index of
/// 16 dimensions.
bool serves_decode(const AttentionInput& input, const LayerIndexer& layer);

/// What sparse rows attended to.
struct DecodedRows {
  at::Tensor out;         ///< [n, H, D], the dtype of q
  at::Tensor far_tokens;  ///< int64 [R]: what each retrieval head picked, all rows together
};

/// Sparse rows of a layer by ops::sparse_decode(), some tokens a launch: local heads see sinks and window, retrieval
/// heads the far tokens too that their rule picks, as select_tokens() would of scores that were computed with bfloat16
/// keys. index_keys bfloat16 [Kr, S, 16]. A layer without retrieval heads needs neither keys nor rules. A tail with a
/// block is added by tensor code; `tail` is for the same rows.
DecodedRows attend_by_index(const AttentionInput& input, const LayerIndexer& layer, const at::Tensor& index_keys,
                            LocalWindow local, const std::vector<kernels::SelectionRule>& rules, const TailInput& tail,
                            ops::DecodeWorkspace& workspace);

}  // namespace retrosparse
