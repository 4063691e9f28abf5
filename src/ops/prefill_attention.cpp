#include "ops/prefill_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>

#include "ops/binding.h"
#include "ops/kernel_use.h"

namespace retrosparse::ops {
namespace {

using kernels::HeadMode;
using kernels::PrefillPart;
using kernels::PrefillSequence;

constexpr std::string_view kOperation = "prefill_attention";

/// [tokens, heads, head_dim] with the last dimension contiguous; other layouts are copied.
at::Tensor rows(const at::Tensor& tensor) {
  return tensor.stride(2) == 1 && tensor.stride(0) % 8 == 0 && tensor.stride(1) % 8 == 0 ? tensor : tensor.contiguous();
}

void check_arguments(const PrefillInput& input, const AttentionPlan& plan) {
  const auto& [q, k, v, scale, sequences] = input;
  if (!q.defined() || q.dim() != 3) {
    reject(kOperation, "q", "[queries, num_heads, head_dim]", describe(q));
  }
  kernel_dtype(q, kOperation, "q");
  for (const auto& [name, tensor] : {std::pair("k", k), std::pair("v", v)}) {
    if (!tensor.defined() || tensor.dim() != 3 || tensor.size(2) != q.size(2) || tensor.sizes() != k.sizes() ||
        tensor.scalar_type() != q.scalar_type()) {
      reject(kOperation, name,
             fmt::format("{} [keys, num_key_value_heads, {}]", c10::toString(q.scalar_type()), q.size(2)),
             describe(tensor));
    }
    require_device(tensor, q.device(), kOperation, name);
  }
  if (k.size(1) == 0 || q.size(1) % k.size(1) != 0) {
    reject(kOperation, "k", fmt::format("a number of heads that divides {}", q.size(1)), describe(k));
  }
  if (static_cast<int64_t>(plan.head_modes.size()) != q.size(1)) {
    reject(kOperation, "plan", fmt::format("{} heads", q.size(1)), fmt::format("{}", plan.head_modes.size()));
  }
  if (plan.window < 1 || plan.sink_tokens < 0) {
    reject(kOperation, "plan", "a window of 1 or more and 0 or more sinks",
           fmt::format("{} and {}", plan.window, plan.sink_tokens));
  }
  if (!(scale > 0)) {
    reject(kOperation, "softmax_scale", "more than 0", fmt::format("{}", scale));
  }
  for (const PrefillSequence& s : input.all_sequences()) {
    if (s.query_count < 0 || s.query_begin < 0 || s.key_begin < 0 || s.key_count < s.query_count ||
        s.query_begin > q.size(0) - s.query_count || s.key_begin > k.size(0) - s.key_count) {
      reject(kOperation, "sequences", fmt::format("rows of {} queries and {} keys", q.size(0), k.size(0)),
             fmt::format("queries from {} on, {} of them; keys from {} on, {} of them", s.query_begin, s.query_count,
                         s.key_begin, s.key_count));
    }
  }
}

void check_tiles(const at::Tensor& tiles, const PrefillInput& input, int64_t heads) {
  int64_t query_tiles = 0;
  int64_t most_keys = 0;
  for (const PrefillSequence& s : input.all_sequences()) {
    query_tiles += (s.query_count + kernels::kPrefillQueryTile - 1) / kernels::kPrefillQueryTile;
    most_keys = std::max<int64_t>(most_keys, s.key_count);
  }
  const int64_t words = (most_keys + kernels::kPrefillKeyTile * 32 - 1) / (kernels::kPrefillKeyTile * 32);
  if (!tiles.defined() || tiles.dim() != 3 || tiles.scalar_type() != at::kInt || tiles.size(0) != heads ||
      tiles.size(1) < query_tiles || tiles.size(2) < words) {
    reject(kOperation, "selected_tiles", fmt::format("Int [{}, {}, {}]", heads, query_tiles, words), describe(tiles));
  }
  require_device(tiles, input.q.device(), kOperation, "selected_tiles");
}

void run(const PrefillInput& input, const AttentionPlan& plan, const at::Tensor& selected_tiles, PrefillPart part,
         AttentionOutput& output) {
  check_arguments(input, plan);
  const auto selected = static_cast<int64_t>(plan.selected_heads().size());
  if (selected > 0 && part != PrefillPart::kResident) {
    check_tiles(selected_tiles, input, selected);
  }
  if (input.q.numel() == 0) {
    return;
  }
  const at::Tensor q = rows(input.q);
  const at::Tensor k = rows(input.k);
  const at::Tensor v = rows(input.v);
  const at::Tensor tiles = selected_tiles.defined() ? selected_tiles.contiguous() : at::Tensor();
  const std::vector<PrefillSequence> sequences = input.all_sequences();
  kernels::PrefillAttentionParams params;
  params.q = q.const_data_ptr();
  params.k = k.const_data_ptr();
  params.v = v.const_data_ptr();
  params.o = output.o.mutable_data_ptr();
  params.lse = output.lse.mutable_data_ptr<float>();
  params.q_token_stride = q.stride(0);
  params.q_head_stride = q.stride(1);
  params.k_token_stride = k.stride(0);
  params.k_head_stride = k.stride(1);
  params.v_token_stride = v.stride(0);
  params.v_head_stride = v.stride(1);
  params.o_token_stride = output.o.stride(0);
  params.o_head_stride = output.o.stride(1);
  params.lse_head_stride = output.lse.stride(0);
  params.total_queries = static_cast<int32_t>(q.size(0));
  params.total_keys = static_cast<int32_t>(k.size(0));
  params.num_heads = static_cast<int32_t>(q.size(1));
  params.num_key_value_heads = static_cast<int32_t>(k.size(1));
  params.head_dim = static_cast<int32_t>(q.size(2));
  params.dtype = kernel_dtype(q, kOperation, "q");
  params.part = part;
  params.softmax_scale = static_cast<float>(input.softmax_scale);
  params.head_modes = plan.head_modes.data();
  params.sink_tokens = plan.sink_tokens;
  params.window = plan.window;
  params.sequences = sequences.data();
  params.num_sequences = static_cast<int32_t>(sequences.size());
  if (tiles.defined()) {
    params.selected_tiles = reinterpret_cast<const uint32_t*>(tiles.const_data_ptr<int32_t>());
    params.selected_tiles_head_stride = tiles.stride(0);
    params.selected_tiles_query_stride = tiles.stride(1);
  }
#ifdef RETROSPARSE_WITH_CUDA
  if (q.is_cuda()) {
    const at::Tensor workspace = at::empty({1}, q.options().dtype(at::kInt));
    params.workspace = workspace.mutable_data_ptr<int32_t>();
    launch_on(q.device(), kOperation,
              [&](cudaStream_t stream) { return kernels::sm90::prefill_attention(params, stream); });
    return;
  }
#endif
  at::parallel_for(0, params.num_heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) {
      kernels::reference::prefill_attention(params, static_cast<int32_t>(head));
    }
  });
}

AttentionOutput empty_output(const PrefillInput& input) {
  if (!input.q.defined() || input.q.dim() != 3) {
    reject(kOperation, "q", "[queries, num_heads, head_dim]", describe(input.q));
  }
  return {at::empty(input.q.sizes(), input.q.options().memory_format(at::MemoryFormat::Contiguous)),
          at::empty({input.q.size(1), input.q.size(0)}, input.q.options().dtype(at::kFloat))};
}

}  // namespace

std::vector<PrefillSequence> PrefillInput::all_sequences() const {
  if (!sequences.empty()) {
    return sequences;
  }
  return {{0, static_cast<int32_t>(q.size(0)), 0, static_cast<int32_t>(k.size(0))}};
}

bool serves_prefill(const at::Tensor& q) {
  return q.size(0) >= 2 && attention_kernels_serve(q, KernelUse::kPrefill);
}

AttentionOutput prefill_attention(const PrefillInput& input, const AttentionPlan& plan,
                                  const at::Tensor& selected_tiles) {
  AttentionOutput output = empty_output(input);
  run(input, plan, selected_tiles, PrefillPart::kAll, output);
  return output;
}

AttentionOutput prefill_resident(const PrefillInput& input, const AttentionPlan& plan) {
  AttentionOutput output = empty_output(input);
  run(input, plan, {}, PrefillPart::kResident, output);
  return output;
}

void prefill_selected(const PrefillInput& input, const AttentionPlan& plan, const at::Tensor& selected_tiles,
                      AttentionOutput& output) {
  run(input, plan, selected_tiles, PrefillPart::kSelected, output);
}

}  // namespace retrosparse::ops
