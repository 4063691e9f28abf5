// Decode selection alone: scores of all far keys, and the pick.
#include <ATen/ATen.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include "bench/bench.h"
#include "bench/measure.h"
#include "bench/random_layer.h"

namespace retrosparse::bench {
namespace {

using kernels::HeadMode;

Line measure(const LayerShape& shape, int64_t batch, int64_t tokens, int runs, double bandwidth) {
  const ops::AttentionPlan plan = shape.plan(HeadMode::kLocal, HeadMode::kSelected);
  const double bytes = 2.0 * kernels::kIndexDim * static_cast<double>(batch * tokens * shape.retrieval_groups().size());
  std::vector<DecodeLayer> layers;
  std::vector<std::function<void()>> steps;
  for (int64_t i = 0; i < layers_of(bytes); ++i) {
    layers.emplace_back(shape, batch, tokens, false);
  }
  ops::DecodeWorkspace workspace;
  const at::Tensor lse_local =
      at::full({batch, 1, shape.num_heads}, 9.0, layers[0].input.q.options().dtype(at::kFloat));
  for (const DecodeLayer& layer : layers) {
    steps.emplace_back([&] { ops::decode_selection(layer.selection, layer.input, plan, lse_local, workspace); });
  }
  Line line = {{"work", "select"}, {"shape", shape.name}, {"tokens", tokens}, {"batch", batch}};
  line["selection_us"] = graph_us(steps, runs);
  line["index_TB_per_s"] = bytes / line["selection_us"].get<double>() / 1e6;
  line["share_of_copy"] = line["index_TB_per_s"].get<double>() / bandwidth;
  return line;
}

}  // namespace

void bench_select(const Settings& settings, const OnLine& on_line) {
  const double bandwidth = copy_bandwidth();
  for (const LayerShape& shape : settings.shapes) {
    for (const int64_t tokens : settings.lengths) {
      for (const int64_t batch : settings.batches) {
        on_line(measure(shape, batch, tokens, settings.runs, bandwidth));
        c10::cuda::CUDACachingAllocator::emptyCache();
      }
    }
  }
}

}  // namespace retrosparse::bench
