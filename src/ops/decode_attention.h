#pragma once
#include <ATen/core/Tensor.h>
#include <retrosparse_kernels/decode_attention.h>
#include <retrosparse_kernels/decode_selection.h>

#include "ops/attention_plan.h"

namespace retrosparse::ops {

/// Whether the GPU kernels of decoding run for these queries [n, num_heads, head_dim]; see ops/kernel_use.h.
bool serves_decode(const at::Tensor& q);

/// Keys and values of a batch, contiguous or in pages; <retrosparse_kernels/decode_attention.h> has the layouts.
struct DecodeInput {
  at::Tensor q;     ///< [batch, query_tokens (1 to 8), num_heads, head_dim]; on a GPU bfloat16, head_dim 64 or 128
  at::Tensor k, v;  ///< [batch or pages, tokens, num_key_value_heads, head_dim], dtype of q, the same strides
  at::Tensor key_counts;  ///< int32 [batch]: tokens in the cache, those of q included
  at::Tensor page_table;  ///< int32 [batch, pages of a sequence]; undefined for a contiguous cache
  double softmax_scale = 0;
  int64_t max_keys = 0;  ///< what key_counts may reach while the call, or the graph it is captured in, is used
};

/// Index queries and keys of the kSelected heads, and how many keys each takes.
struct DecodeSelectionInput {
  at::Tensor queries;  ///< float32 [batch, query_tokens, R, 16]
  at::Tensor gates;    ///< float32 [batch, query_tokens, R]
  at::Tensor keys;     ///< bfloat16 [batch or pages, K_r, tokens, 16]; with pages those of DecodeInput
  std::vector<kernels::SelectionRule> rules;  ///< one for each kSelected head
};

struct SelectedKeys {
  at::Tensor positions;  ///< int32 [batch, query_tokens, R, the largest max_tokens], in rising order
  at::Tensor counts;     ///< int32 [batch, query_tokens, R]
  at::Tensor far_mass;   ///< float32 [batch, query_tokens, R]
};

struct DecodeOutput {
  at::Tensor o;        ///< as q
  at::Tensor lse;      ///< float32 [batch, query_tokens, num_heads]
  at::Tensor o_float;  ///< as q in float32: what decode_resident() hands to decode_selected()
};

struct SparseDecodeOutput {
  DecodeOutput attention;
  SelectedKeys selected;
};

/// Device memory of the kernels. Reused from call to call on one stream; grows where it is too small, so that a graph
/// wants a first call of the same shape before it is captured.
struct DecodeWorkspace {
  at::Tensor attention, selection;
};

/// Attention of the latest tokens of each sequence, everything at once: heads of kSelected attend to `selected` too.
/// Not differentiable; the CPU runs the float64 reference. All of these throw std::invalid_argument if the arguments
/// do not fit together.
DecodeOutput decode_attention(const DecodeInput& input, const AttentionPlan& plan, const SelectedKeys* selected,
                              DecodeWorkspace& workspace);

/// A whole decode step: the keys of the kSelected heads are selected by the log-sum-exps over sinks and window that the
/// attention itself finds. On a GPU the index scores are computed beside sinks and window.
SparseDecodeOutput sparse_decode(const DecodeInput& input, const DecodeSelectionInput& selection,
                                 const AttentionPlan& plan, DecodeWorkspace& workspace);

/// The same step by step, one after the other.
DecodeOutput decode_resident(const DecodeInput& input, const AttentionPlan& plan, DecodeWorkspace& workspace);
SelectedKeys decode_selection(const DecodeSelectionInput& selection, const DecodeInput& input,
                              const AttentionPlan& plan, const at::Tensor& lse_local, DecodeWorkspace& workspace);
/// `follows_selection`: the launch before on the stream is that of decode_selection(), q is contiguous.
void decode_selected(const DecodeInput& input, const AttentionPlan& plan, const SelectedKeys& selected,
                     DecodeOutput& output, DecodeWorkspace& workspace, bool follows_selection = false);

}  // namespace retrosparse::ops
