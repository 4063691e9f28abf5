#pragma once
#include <ATen/core/Tensor.h>
#include <retrosparse_kernels/prefill_attention.h>

#include "ops/attention_plan.h"

namespace retrosparse::ops {

struct PrefillInput {
  at::Tensor q;     ///< [queries, num_heads, head_dim]; on a GPU bfloat16 with head_dim 64 or 128
  at::Tensor k, v;  ///< [keys, num_key_value_heads, head_dim], dtype and device of q
  double softmax_scale = 0;
  /// The packed batch; empty: one sequence of all keys, whose latest tokens are the queries.
  std::vector<kernels::PrefillSequence> sequences;

  /// The batch with that default resolved.
  std::vector<kernels::PrefillSequence> all_sequences() const;
};

struct AttentionOutput {
  at::Tensor o;    ///< as q, contiguous
  at::Tensor lse;  ///< float32 [num_heads, queries]
};

/// Whether the GPU kernel of prefill_attention() runs for these queries [queries, num_heads, head_dim]: those that
/// attention_kernels_serve() (ops/kernel_use.h) wants, more than one (one is the decode kernel's).
bool serves_prefill(const at::Tensor& q);

/// Causal attention with one plan per query head; <retrosparse_kernels/prefill_attention.h> has the formula and the
/// layouts. `selected_tiles` (int32 [R, query tiles, words], see there) is wanted where heads are kSelected. A GPU runs
/// the kernel, the CPU the float64 reference. Not differentiable. Throws std::invalid_argument if the arguments do not
/// fit together.
AttentionOutput prefill_attention(const PrefillInput& input, const AttentionPlan& plan,
                                  const at::Tensor& selected_tiles = {});

/// The two halves of a prefill that selects tiles: everything but the selected tiles, whose lse the selection needs,
/// and those tiles, merged into `output`, which is changed in place.
AttentionOutput prefill_resident(const PrefillInput& input, const AttentionPlan& plan);
void prefill_selected(const PrefillInput& input, const AttentionPlan& plan, const at::Tensor& selected_tiles,
                      AttentionOutput& output);

}  // namespace retrosparse::ops
