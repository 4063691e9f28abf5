#include "model/planned_attention.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"
#include "model/dense_attention.h"
#include "ops/prefill_attention.h"

namespace retrosparse {
namespace {

// Rows computed together. A row costs window + kRows keys, so more rows waste time and fewer waste launches.
int64_t rows_per_block(int64_t window) {
  return std::clamp(window / 2 / 64 * 64, int64_t{64}, int64_t{1024});
}

// 0 where query position sees key position, -inf elsewhere; [queries, keys] in the dtype of the scores.
at::Tensor visibility_bias(const at::Tensor& query_positions, const at::Tensor& key_positions, LocalWindow view,
                           at::TensorOptions options) {
  const at::Tensor distance = query_positions.unsqueeze(1) - key_positions.unsqueeze(0);
  const at::Tensor in_window = distance.lt(view.window).logical_or_(key_positions.lt(view.sink_tokens).unsqueeze(0));
  const at::Tensor hidden = in_window.logical_and_(distance.ge(0)).logical_not_();
  return at::zeros(hidden.sizes(), options).masked_fill_(hidden, -std::numeric_limits<double>::infinity());
}

at::Tensor sinks_and_range(const at::Tensor& tokens, int64_t num_sinks, int64_t begin, int64_t end) {
  const at::Tensor range = tokens.narrow(0, begin, end - begin);
  return num_sinks == 0 ? range : at::cat({tokens.narrow(0, 0, num_sinks), range});
}

PartialAttention attend_one_local(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                                  LocalWindow view) {
  const int64_t num_keys = k.size(0), begin = std::max(num_keys - view.window, int64_t{0});
  const PartialAttention near =
      attend(q, k.narrow(0, begin, num_keys - begin), v.narrow(0, begin, num_keys - begin), scale);
  const int64_t num_sinks = std::min(view.sink_tokens, begin);
  if (num_sinks == 0) {
    return near;
  }
  return merge(attend(q, k.narrow(0, 0, num_sinks), v.narrow(0, 0, num_sinks), scale), near);
}

// The plan of a layer whose local heads all have the same window.
std::optional<ops::AttentionPlan> common_plan(const HeadWindows& windows) {
  ops::AttentionPlan plan;
  std::optional<LocalWindow> common;
  for (const std::optional<LocalWindow>& view : windows) {
    plan.head_modes.push_back(view ? kernels::HeadMode::kLocal : kernels::HeadMode::kDense);
    if (view && common && !(*view == *common)) {
      return std::nullopt;
    }
    common = view ? view : common;
  }
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (common) {
    plan.sink_tokens = static_cast<int32_t>(std::min(common->sink_tokens, kMost));
    plan.window = static_cast<int32_t>(std::min(common->window, kMost));
  }
  return plan;
}

}  // namespace

PartialAttention attend_local(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                              LocalWindow view) {
  const int64_t num_new = q.size(0), num_keys = k.size(0), first = num_keys - num_new;
  if (num_keys <= view.window + view.sink_tokens) {
    return attend_dense(q, k, v, scale);  // sinks and window meet for every row
  }
  if (num_new == 1) {
    return attend_one_local(q, k, v, scale, view);
  }
  if (ops::serves_prefill(q)) {
    const HeadWindows every_head(static_cast<size_t>(q.size(1)), view);
    const ops::AttentionOutput result = ops::prefill_attention({q, k, v, scale, {}}, *common_plan(every_head));
    return {result.o, result.lse.t()};
  }
  const int64_t block = rows_per_block(view.window);
  const at::TensorOptions positions = q.options().dtype(at::kLong).requires_grad(false);
  std::vector<at::Tensor> outs, lses;
  for (int64_t row = 0; row < num_new; row += block) {
    const int64_t rows = std::min(block, num_new - row);
    const int64_t end = first + row + rows;  // one past the block's last query, and last key
    const int64_t begin = std::max(first + row - view.window + 1, int64_t{0});
    const int64_t num_sinks = std::min(view.sink_tokens, begin);
    const at::Tensor key_positions = sinks_and_range(at::arange(end, positions), num_sinks, begin, end);
    const at::Tensor query_positions = at::arange(first + row, end, positions);
    const PartialAttention part = attend(
        q.narrow(0, row, rows), sinks_and_range(k, num_sinks, begin, end), sinks_and_range(v, num_sinks, begin, end),
        scale, visibility_bias(query_positions, key_positions, view, q.options().requires_grad(false)));
    outs.push_back(part.out);
    lses.push_back(part.lse);
  }
  return {at::cat(outs), at::cat(lses)};
}

PlannedAttention::PlannedAttention(const std::vector<HeadWindows>& windows, int64_t num_key_value_heads,
                                   at::Device device) {
  for (size_t layer = 0; layer < windows.size(); ++layer) {
    for (size_t head = 0; head < windows[layer].size(); ++head) {
      const std::optional<LocalWindow>& view = windows[layer][head];
      if (view && (view->window < 1 || view->sink_tokens < 0)) {
        throw Error(fmt::format("layer {} head {}: not a window", layer, head))
            .expected("window >= 1 and sink_tokens >= 0")
            .found(fmt::format("window {}, sink_tokens {}", view->window, view->sink_tokens));
      }
    }
    layers_.push_back(plan_layer(windows[layer], num_key_value_heads, device));
  }
}

PlannedAttention::Layer PlannedAttention::plan_layer(const HeadWindows& windows, int64_t num_key_value_heads,
                                                     at::Device device) {
  const int64_t num_heads = static_cast<int64_t>(windows.size()), group_size = num_heads / num_key_value_heads;
  Layer layer;
  layer.in_one_launch = common_plan(windows);
  for (int64_t group = 0; group < num_key_value_heads; ++group) {
    std::vector<HeadSet> of_group;  // this group's heads by view
    for (int64_t head = group * group_size; head < (group + 1) * group_size; ++head) {
      const auto& view = windows[static_cast<size_t>(head)];
      auto set = std::ranges::find(of_group, view, &HeadSet::view);
      if (set == of_group.end()) {
        set = of_group.insert(set, HeadSet{view, group, 1, {}, {}});
      }
      set->heads.push_back(head);
    }
    for (HeadSet& set : of_group) {
      const auto neighbour = std::ranges::find_if(layer.sets, [&](const HeadSet& other) {
        return other.view == set.view && other.first_group + other.num_groups == group &&
               other.heads.size() == set.heads.size() * static_cast<size_t>(other.num_groups);
      });
      if (neighbour == layer.sets.end()) {
        layer.sets.push_back(std::move(set));
      } else {
        ++neighbour->num_groups;
        neighbour->heads.insert(neighbour->heads.end(), set.heads.begin(), set.heads.end());
      }
    }
  }
  std::vector<int64_t> position(windows.size());
  int64_t place = 0;
  for (HeadSet& set : layer.sets) {
    for (const int64_t head : set.heads) {
      position[static_cast<size_t>(head)] = place++;
    }
    if (set.heads.size() < windows.size()) {
      set.head_index = at::tensor(set.heads, at::kLong).to(device);
    }
  }
  layer.position_of_head = at::tensor(position, at::kLong).to(device);
  return layer;
}

at::Tensor PlannedAttention::forward(const AttentionInput& input) {
  const Layer& layer = layers_.at(static_cast<size_t>(input.layer));
  if (layer.in_one_launch && ops::serves_prefill(input.q)) {
    return ops::prefill_attention({input.q, input.k, input.v, input.scale, {}}, *layer.in_one_launch).o;
  }
  std::vector<at::Tensor> outs;
  for (const HeadSet& set : layer.sets) {
    const at::Tensor q = set.head_index.defined() ? input.q.index_select(1, set.head_index) : input.q;
    const at::Tensor k = input.k.narrow(1, set.first_group, set.num_groups);
    const at::Tensor v = input.v.narrow(1, set.first_group, set.num_groups);
    outs.push_back(set.view ? attend_local(q, k, v, input.scale, *set.view).out
                            : attend_dense(q, k, v, input.scale).out);
  }
  return outs.size() == 1 ? outs.front() : at::cat(outs, 1).index_select(1, layer.position_of_head);
}

}  // namespace retrosparse
