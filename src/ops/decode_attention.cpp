#include "ops/decode_attention.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "ops/binding.h"
#include "ops/decode_checks.h"
#include "ops/kernel_use.h"

namespace retrosparse::ops {
namespace {

using kernels::DecodePart;

constexpr std::string_view kOperation = "decode_attention";

void run(const DecodeInput& input, const AttentionPlan& plan, DecodePart part, const SelectedKeys* selected,
         DecodeOutput& output, [[maybe_unused]] DecodeWorkspace& workspace, bool follows_selection = false) {
  check_decode(input, plan, kOperation);
  const auto selected_heads = static_cast<int64_t>(plan.selected_heads().size());
  kernels::DecodeAttentionParams params;
  const at::Tensor q = input.q.contiguous();
  at::Tensor positions;
  at::Tensor counts;
  if (selected_heads > 0 && part != DecodePart::kResident) {
    if (selected == nullptr || !selected->positions.defined() || selected->positions.dim() != 4) {
      reject(kOperation, "selected", "the keys of the kSelected heads",
             selected == nullptr ? "none" : describe(selected->positions));
    }
    require_tensor(selected->positions, at::kInt, {q.size(0), q.size(1), selected_heads, selected->positions.size(3)},
                   q.device(), kOperation, "selected.positions");
    require_tensor(selected->counts, at::kInt, {q.size(0), q.size(1), selected_heads}, q.device(), kOperation,
                   "selected.counts");
    positions = selected->positions.contiguous();
    counts = selected->counts.contiguous();
    params.selected = positions.const_data_ptr<int32_t>();
    params.selected_counts = counts.const_data_ptr<int32_t>();
    params.max_selected = static_cast<int32_t>(positions.size(3));
  }
  params.q = q.const_data_ptr();
  params.o = output.o.mutable_data_ptr();
  params.o_float = output.o_float.defined() ? output.o_float.mutable_data_ptr<float>() : nullptr;
  params.lse = output.lse.mutable_data_ptr<float>();
  params.cache.k = input.k.const_data_ptr();
  params.cache.v = input.v.const_data_ptr();
  params.cache.sequence_stride = input.k.stride(0);
  params.cache.token_stride = input.k.stride(1);
  params.cache.head_stride = input.k.stride(2);
  if (input.page_table.defined()) {
    params.cache.page_table = input.page_table.const_data_ptr<int32_t>();
    params.cache.page_table_stride = input.page_table.stride(0);
    params.cache.page_size = static_cast<int32_t>(input.k.size(1));
  }
  params.key_counts = input.key_counts.const_data_ptr<int32_t>();
  params.batch = static_cast<int32_t>(q.size(0));
  params.query_tokens = static_cast<int32_t>(q.size(1));
  params.num_heads = static_cast<int32_t>(q.size(2));
  params.num_key_value_heads = static_cast<int32_t>(input.k.size(2));
  params.head_dim = static_cast<int32_t>(q.size(3));
  params.max_keys = static_cast<int32_t>(input.max_keys);
  params.dtype = kernel_dtype(q, kOperation, "q");
  params.part = part;
  params.follows_selection = follows_selection;
  params.softmax_scale = static_cast<float>(input.softmax_scale);
  params.head_modes = plan.head_modes.data();
  params.sink_tokens = plan.sink_tokens;
  params.window = plan.window;
#ifdef RETROSPARSE_WITH_CUDA
  if (q.is_cuda()) {
    launch_on(q.device(), kOperation, [&](cudaStream_t stream) {
      const size_t bytes = kernels::sm90::decode_attention_workspace(params);
      reserve(workspace.attention, bytes, bytes, q);
      params.workspace = workspace.attention.mutable_data_ptr();
      return kernels::sm90::decode_attention(params, stream);
    });
    return;
  }
#endif
  kernels::reference::decode_attention(params);
}

DecodeOutput empty_output(const DecodeInput& input, bool in_steps) {
  if (!input.q.defined() || input.q.dim() != 4) {
    reject(kOperation, "q", "[batch, query_tokens, num_heads, head_dim]", describe(input.q));
  }
  const auto float_options = input.q.options().dtype(at::kFloat).memory_format(at::MemoryFormat::Contiguous);
  return {at::empty(input.q.sizes(), input.q.options().memory_format(at::MemoryFormat::Contiguous)),
          at::empty({input.q.size(0), input.q.size(1), input.q.size(2)}, float_options),
          in_steps ? at::empty(input.q.sizes(), float_options) : at::Tensor()};
}

}  // namespace

bool serves_decode(const at::Tensor& q) {
  return attention_kernels_serve(q, KernelUse::kAll);
}

DecodeOutput decode_attention(const DecodeInput& input, const AttentionPlan& plan, const SelectedKeys* selected,
                              DecodeWorkspace& workspace) {
  DecodeOutput output = empty_output(input, false);
  run(input, plan, DecodePart::kAll, selected, output, workspace);
  return output;
}

DecodeOutput decode_resident(const DecodeInput& input, const AttentionPlan& plan, DecodeWorkspace& workspace) {
  DecodeOutput output = empty_output(input, true);
  run(input, plan, DecodePart::kResident, nullptr, output, workspace);
  return output;
}

void decode_selected(const DecodeInput& input, const AttentionPlan& plan, const SelectedKeys& selected,
                     DecodeOutput& output, DecodeWorkspace& workspace, bool follows_selection) {
  run(input, plan, DecodePart::kSelected, &selected, output, workspace, follows_selection);
}

}  // namespace retrosparse::ops
