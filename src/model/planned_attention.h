#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "model/attend.h"
#include "model/attention.h"
#include "ops/attention_plan.h"

namespace retrosparse {

/// A local head's view: the first `sink_tokens` tokens and the `window` latest ones, the query's own among them
/// (StreamingLLM, arXiv 2309.17453). window >= 1, sink_tokens >= 0.
struct LocalWindow {
  int64_t sink_tokens;
  int64_t window;
  bool operator==(const LocalWindow&) const = default;
};

/// Per query head: a window, or nothing for full causal attention.
using HeadWindows = std::vector<std::optional<LocalWindow>>;

/// Attention of T new queries [T, H, D] over S keys [S, K, D], the new tokens' last, within `view`. Time and memory
/// T x (window + sink_tokens), not T x S. Differentiable in `out` (T > 1). Uses ops::prefill_attention where its kernel
/// can run, else blocks of rows with a mask.
PartialAttention attend_local(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                              LocalWindow view);

/// Full attention for some query heads, sinks and window for the others: what prefill computes after profiling.
class PlannedAttention : public Attention {
 public:
  /// windows[layer][query head]; every layer has the same number of heads, a multiple of num_key_value_heads.
  /// Throws Error naming layer and head for a window < 1 or a negative sink count.
  PlannedAttention(const std::vector<HeadWindows>& windows, int64_t num_key_value_heads, at::Device device);

  at::Tensor forward(const AttentionInput& input) override;

 private:
  // Query heads of one layer that run as one grouped call: the same view, neighbouring KV groups (so that their keys
  // are a view of the cache, not a copy) and the same number of heads in each group.
  struct HeadSet {
    std::optional<LocalWindow> view;
    int64_t first_group = 0, num_groups = 0;
    std::vector<int64_t> heads;  // group by group
    at::Tensor head_index;       // the same as a tensor; undefined when it is every head of the layer
  };
  struct Layer {
    std::vector<HeadSet> sets;
    std::optional<ops::AttentionPlan> in_one_launch;  // where all windows of the layer are equal
    at::Tensor position_of_head;  // int64 [H]: where head h stands when the sets' outputs are concatenated
  };
  static Layer plan_layer(const HeadWindows& windows, int64_t num_key_value_heads, at::Device device);
  std::vector<Layer> layers_;
};

}  // namespace retrosparse
