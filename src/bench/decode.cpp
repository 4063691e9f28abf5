// One decode step of a layer, batch by batch and length by length.
#include <ATen/ATen.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <fmt/format.h>

#include <algorithm>

#include "bench/bench.h"
#include "bench/measure.h"
#include "bench/random_layer.h"
#include "bench/rivals.h"

namespace retrosparse::bench {
namespace {

using kernels::HeadMode;

Line measure(const LayerShape& shape, int64_t batch, int64_t tokens, int runs) {
  const ops::AttentionPlan sparse = shape.plan(HeadMode::kLocal, HeadMode::kSelected);
  const ops::AttentionPlan dense = shape.plan(HeadMode::kDense, HeadMode::kDense);
  const double bytes = 4.0 * static_cast<double>(batch * tokens * shape.num_key_value_heads * shape.head_dim);
  std::vector<DecodeLayer> layers;
  for (int64_t i = 0; i < layers_of(bytes); ++i) {
    layers.emplace_back(shape, batch, tokens, true);
  }
  ops::DecodeWorkspace workspace;
  const auto time = [&](const std::function<void(size_t)>& step) {
    std::vector<std::function<void()>> steps;
    for (size_t i = 0; i < layers.size(); ++i) {
      steps.emplace_back([&step, i] { step(i); });
    }
    return graph_us(steps, runs);
  };

  Line line = {{"work", "decode"}, {"shape", shape.name}, {"tokens", tokens}, {"batch", batch}};
  double best = INFINITY;
  for (const Rival& rival : rivals()) {
    const double us =
        time([&](size_t i) { rival_attention(rival, layers[i].input.q, layers[i].input.k, layers[i].input.v, false); });
    line[rival.name + "_us"] = us;
    best = std::min(best, us);
  }
  line["dense_us"] = time([&](size_t i) { ops::decode_attention(layers[i].input, dense, nullptr, workspace); });
  line["resident_us"] = time([&](size_t i) { ops::decode_resident(layers[i].input, sparse, workspace); });
  std::vector<ops::DecodeOutput> outputs;
  std::vector<ops::SelectedKeys> selected;
  for (const DecodeLayer& layer : layers) {
    outputs.push_back(ops::decode_resident(layer.input, sparse, workspace));
    selected.push_back(ops::decode_selection(layer.selection, layer.input, sparse, outputs.back().lse, workspace));
  }
  line["selection_us"] = time([&](size_t i) {
    ops::decode_selection(layers[i].selection, layers[i].input, sparse, outputs[i].lse, workspace);
  });
  line["selected_us"] =
      time([&](size_t i) { ops::decode_selected(layers[i].input, sparse, selected[i], outputs[i], workspace); });
  const double step =
      time([&](size_t i) { ops::sparse_decode(layers[i].input, layers[i].selection, sparse, workspace); });
  line["sparse_us"] = step;
  line["keys_per_head"] = selected[0].counts.to(at::kDouble).mean().item<double>();
  line["dense_TB_per_s"] = bytes / line["dense_us"].get<double>() / 1e6;
  line["speed_up"] = best / step;
  return line;
}

}  // namespace

void bench_decode(const Settings& settings, const OnLine& on_line) {
  for (const LayerShape& shape : settings.shapes) {
    for (const int64_t tokens : settings.lengths) {
      for (const int64_t batch : settings.batches) {
        on_line(measure(shape, batch, tokens, settings.runs));
        c10::cuda::CUDACachingAllocator::emptyCache();
      }
    }
  }
}

}  // namespace retrosparse::bench
