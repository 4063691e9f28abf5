// The operators of torch.ops.retrosparse, for the CPU and GPUs; their shapes without data are in fake.cpp.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "ops/decode_attention.h"
#include "ops/index_projection.h"
#include "ops/tile_selection.h"

namespace retrosparse::engine {
namespace {

using at::Tensor;
using Two = std::tuple<Tensor, Tensor>;
using Three = std::tuple<Tensor, Tensor, Tensor>;

ops::AttentionPlan plan_of(at::IntArrayRef head_modes, int64_t sink_tokens, int64_t window) {
  ops::AttentionPlan plan;
  for (const int64_t mode : head_modes) {
    TORCH_CHECK(mode >= 0 && mode <= 2, "head_modes: expected 0, 1 or 2, found ", mode);
    plan.head_modes.push_back(static_cast<kernels::HeadMode>(mode));
  }
  plan.sink_tokens = static_cast<int32_t>(sink_tokens);
  plan.window = static_cast<int32_t>(window);
  return plan;
}

Two prefill_attention(const Tensor& q, const Tensor& k, const Tensor& v, at::IntArrayRef head_modes,
                      int64_t sink_tokens, int64_t window, double softmax_scale,
                      const std::optional<Tensor>& selected_tiles) {
  const ops::AttentionOutput output = ops::prefill_attention(
      {q, k, v, softmax_scale, {}}, plan_of(head_modes, sink_tokens, window), selected_tiles.value_or(Tensor()));
  return {output.o, output.lse};
}

Two sparse_prefill(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& index_queries,
                   const Tensor& index_keys, const Tensor& gates, at::IntArrayRef head_modes, int64_t sink_tokens,
                   int64_t window, double softmax_scale, at::ArrayRef<double> tile_shares) {
  const ops::PrefillInput input = {q, k, v, softmax_scale, {}};
  const ops::AttentionPlan plan = plan_of(head_modes, sink_tokens, window);
  ops::AttentionOutput output = ops::prefill_resident(input, plan);
  const std::vector<float> shares(tile_shares.begin(), tile_shares.end());
  const Tensor tiles = ops::select_tiles({index_queries, index_keys, gates, output.lse}, input, plan, shares);
  ops::prefill_selected(input, plan, tiles, output);
  return {output.o, output.lse};
}

std::vector<int32_t> narrow(at::IntArrayRef values) {
  return {values.begin(), values.end()};
}

Tensor empty_index(const Tensor& x, at::IntArrayRef heads, at::ScalarType dtype) {
  return at::empty({x.size(0), static_cast<int64_t>(heads.size()), kernels::kIndexDim}, x.options().dtype(dtype));
}

Tensor index_projection(const Tensor& x, const Tensor& weights, at::IntArrayRef heads, at::ScalarType dtype) {
  Tensor out = empty_index(x, heads, dtype);
  ops::index_projection(x, weights, narrow(heads), out);
  return out;
}

Two index_projection_gated(const Tensor& x, const Tensor& weights, const Tensor& gate_weights,
                           const Tensor& gate_biases, at::IntArrayRef heads, at::ScalarType dtype) {
  Tensor out = empty_index(x, heads, dtype);
  Tensor gates = at::empty({static_cast<int64_t>(heads.size()), x.size(0)}, x.options().dtype(at::kFloat));
  ops::index_projection(x, weights, narrow(heads), out, {gate_weights, gate_biases}, gates);
  return {out, gates};
}

ops::DecodeInput decode_input(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& key_counts,
                              const std::optional<Tensor>& page_table, double softmax_scale, int64_t max_keys) {
  return {q, k, v, key_counts, page_table.value_or(Tensor()), softmax_scale, max_keys};
}

Two decode_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& key_counts,
                     const std::optional<Tensor>& page_table, at::IntArrayRef head_modes, int64_t sink_tokens,
                     int64_t window, double softmax_scale, int64_t max_keys) {
  ops::DecodeWorkspace workspace;
  const ops::DecodeOutput output =
      ops::decode_attention(decode_input(q, k, v, key_counts, page_table, softmax_scale, max_keys),
                            plan_of(head_modes, sink_tokens, window), nullptr, workspace);
  return {output.o, output.lse};
}

Three sparse_decode(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& key_counts,
                    const std::optional<Tensor>& page_table, const Tensor& index_queries, const Tensor& gates,
                    const Tensor& index_keys, at::IntArrayRef head_modes, int64_t sink_tokens, int64_t window,
                    double softmax_scale, int64_t max_keys, at::ArrayRef<double> p, at::IntArrayRef min_tokens,
                    at::IntArrayRef max_tokens) {
  TORCH_CHECK(p.size() == min_tokens.size() && p.size() == max_tokens.size(),
              "p, min_tokens, max_tokens: expected one of each for each head of mode 2, found ", p.size(), ", ",
              min_tokens.size(), " and ", max_tokens.size());
  const ops::DecodeInput input = decode_input(q, k, v, key_counts, page_table, softmax_scale, max_keys);
  const ops::AttentionPlan plan = plan_of(head_modes, sink_tokens, window);
  ops::DecodeSelectionInput selection = {index_queries, gates, index_keys, {}};
  for (size_t i = 0; i < p.size(); ++i) {
    selection.rules.push_back(
        {static_cast<float>(p[i]), static_cast<int32_t>(min_tokens[i]), static_cast<int32_t>(max_tokens[i])});
  }
  ops::DecodeWorkspace workspace;
  const ops::SparseDecodeOutput output = ops::sparse_decode(input, selection, plan, workspace);
  return {output.attention.o, output.attention.lse, output.selected.counts};
}

}  // namespace

TORCH_LIBRARY(retrosparse, m) {
  m.def(
      "prefill_attention(Tensor q, Tensor k, Tensor v, int[] head_modes, int sink_tokens, int window, "
      "float softmax_scale, Tensor? selected_tiles=None) -> (Tensor o, Tensor lse)");
  m.def(
      "sparse_prefill(Tensor q, Tensor k, Tensor v, Tensor index_queries, Tensor index_keys, Tensor gates, "
      "int[] head_modes, int sink_tokens, int window, float softmax_scale, float[] tile_shares) "
      "-> (Tensor o, Tensor lse)");
  m.def("index_projection(Tensor x, Tensor weights, int[] heads, ScalarType dtype) -> Tensor");
  m.def(
      "index_projection_gated(Tensor x, Tensor weights, Tensor gate_weights, Tensor gate_biases, int[] heads, "
      "ScalarType dtype) -> (Tensor index, Tensor gates)");
  m.def(
      "decode_attention(Tensor q, Tensor k, Tensor v, Tensor key_counts, Tensor? page_table, int[] head_modes, "
      "int sink_tokens, int window, float softmax_scale, int max_keys) -> (Tensor o, Tensor lse)");
  m.def(
      "sparse_decode(Tensor q, Tensor k, Tensor v, Tensor key_counts, Tensor? page_table, Tensor index_queries, "
      "Tensor gates, Tensor index_keys, int[] head_modes, int sink_tokens, int window, float softmax_scale, "
      "int max_keys, float[] p, int[] min_tokens, int[] max_tokens) -> (Tensor o, Tensor lse, Tensor counts)");
}

namespace {

void implement(torch::Library& m) {
  m.impl("prefill_attention", prefill_attention);
  m.impl("sparse_prefill", sparse_prefill);
  m.impl("index_projection", index_projection);
  m.impl("index_projection_gated", index_projection_gated);
  m.impl("decode_attention", decode_attention);
  m.impl("sparse_decode", sparse_decode);
}

}  // namespace

TORCH_LIBRARY_IMPL(retrosparse, CPU, m) {
  implement(m);
}
#ifdef RETROSPARSE_WITH_CUDA
TORCH_LIBRARY_IMPL(retrosparse, CUDA, m) {
  implement(m);
}
#endif

}  // namespace retrosparse::engine
