// Prefill of a whole prompt by one layer: dense, with a plan, and with selected tiles.
#include <ATen/ATen.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>

#include "bench/bench.h"
#include "bench/measure.h"
#include "bench/random_layer.h"
#include "bench/rivals.h"
#include "ops/index_projection.h"
#include "ops/tile_selection.h"

namespace retrosparse::bench {
namespace {

using kernels::HeadMode;

/// A prompt's tensors, and what selects its tiles.
class Prompt {
 public:
  Prompt(const LayerShape& shape, int64_t tokens)
      : shape_(shape),
        heads_(static_cast<int64_t>(shape.retrieval_heads.size())),
        groups_(shape.retrieval_groups()),
        plan_(shape.plan(HeadMode::kLocal, HeadMode::kSelected)) {
    input.q = normal({tokens, shape.num_heads, shape.head_dim});
    input.k = normal({tokens, shape.num_key_value_heads, shape.head_dim});
    input.v = normal({tokens, shape.num_key_value_heads, shape.head_dim});
    input.softmax_scale = shape.softmax_scale();
    const auto groups = static_cast<int64_t>(groups_.size());
    q_weights_ = normal({heads_, kernels::kIndexDim, shape.head_dim}) * input.softmax_scale;
    k_weights_ = normal({groups, kernels::kIndexDim, shape.head_dim}) * input.softmax_scale;
    const at::TensorOptions floats = input.q.options().dtype(at::kFloat);
    gate_ = {at::zeros({heads_, shape.head_dim}, input.q.options()), at::zeros({heads_}, floats)};
    index_.queries = at::empty({tokens, heads_, kernels::kIndexDim}, floats.dtype(at::kHalf));
    index_.keys = at::empty({groups, tokens, kernels::kIndexDim}, floats.dtype(at::kHalf));
    index_.gates = at::empty({heads_, tokens}, floats);
  }

  void project() {
    at::Tensor keys = index_.keys.transpose(0, 1);
    ops::index_projection(input.k, k_weights_, groups_, keys);
    ops::index_projection(input.q, q_weights_, shape_.retrieval_heads, index_.queries, gate_, index_.gates);
  }
  ops::AttentionOutput resident() { return ops::prefill_resident(input, plan_); }
  at::Tensor select(const ops::AttentionOutput& resident) {
    index_.lse_local = resident.lse;
    return ops::select_tiles(index_, input, plan_, std::vector<float>(shape_.retrieval_heads.size(), tile_share_));
  }
  void selected(const at::Tensor& tiles, ops::AttentionOutput& output) {
    ops::prefill_selected(input, plan_, tiles, output);
  }

  /// Sets the smallest tile share that selects at most `share` of the tiles that hold far keys; returns what it does.
  double calibrate(double share) {
    project();
    const ops::AttentionOutput output = resident();
    double low = -25;
    double high = 0;
    for (int i = 0; i < 9; ++i) {
      const double middle = (low + high) / 2;
      (density(middle, output) > share ? low : high) = middle;
    }
    return density(high, output);
  }

  ops::PrefillInput input;

 private:
  double density(double log_share, const ops::AttentionOutput& output) {
    tile_share_ = static_cast<float>(std::exp(log_share));
    const at::Tensor tiles = select(output);
    int64_t chosen = 0;
    for (int bit = 0; bit < 32; ++bit) {
      chosen += tiles.__rshift__(bit).__and__(1).sum().item<int64_t>();
    }
    int64_t far = 0;
    for (int64_t first = 0; first < input.q.size(0); first += kernels::kPrefillQueryTile) {
      const int64_t last = std::min(first + kernels::kPrefillQueryTile, input.q.size(0)) - 1;
      far += last >= shape_.window ? (last - shape_.window) / kernels::kPrefillKeyTile + 1 : 0;
    }
    return static_cast<double>(chosen) / static_cast<double>(std::max<int64_t>(1, far * heads_));
  }

  const LayerShape& shape_;
  const int64_t heads_;
  const std::vector<int32_t> groups_;
  const ops::AttentionPlan plan_;
  at::Tensor q_weights_, k_weights_;
  ops::IndexGate gate_;
  ops::TileSelectionInput index_;
  float tile_share_ = 0;
};

/// Pairs of a query and a key that a head looks at.
double pairs(double tokens, double window) {
  const double whole = std::min(tokens, window);
  return whole * (whole + 1) / 2 + (tokens - whole) * whole;
}

Line measure(const LayerShape& shape, int64_t tokens, const Settings& settings) {
  const int runs = std::clamp<int>(static_cast<int>(3e5 / static_cast<double>(tokens)), 1, settings.runs);
  Prompt prompt(shape, tokens);
  const ops::PrefillInput& input = prompt.input;
  const double flops = 4.0 * static_cast<double>(shape.head_dim);  // of a pair
  const double dense_flops =
      flops * static_cast<double>(shape.num_heads) * pairs(static_cast<double>(tokens), INFINITY);
  const double local = flops * pairs(static_cast<double>(tokens), shape.window + shape.sink_tokens);
  const auto heads = static_cast<double>(shape.retrieval_heads.size());
  const double plan_flops = dense_flops * heads / static_cast<double>(shape.num_heads) +
                            (static_cast<double>(shape.num_heads) - heads) * local;

  Line line = {{"work", "prefill"}, {"shape", shape.name}, {"tokens", tokens}};
  for (const Rival& rival : rivals()) {
    const double ms = median_ms(
        [&] { rival_attention(rival, input.q.unsqueeze(0), input.k.unsqueeze(0), input.v.unsqueeze(0), true); }, runs);
    line[rival.name + "_ms"] = ms;
    line[rival.name + "_TFLOP_per_s"] = dense_flops / ms / 1e9;
  }
  const ops::AttentionPlan dense = shape.plan(HeadMode::kDense, HeadMode::kDense);
  const ops::AttentionPlan plan = shape.plan(HeadMode::kLocal, HeadMode::kDense);
  const ops::AttentionPlan windows = shape.plan(HeadMode::kLocal, HeadMode::kLocal);
  const auto attend = [&](const ops::AttentionPlan& heads_plan) {
    return median_ms([&] { ops::prefill_attention(input, heads_plan); }, runs);
  };
  line["dense_ms"] = attend(dense);
  line["dense_TFLOP_per_s"] = dense_flops / line["dense_ms"].get<double>() / 1e9;
  line["windows_ms"] = attend(windows);  // all heads local
  line["plan_ms"] = attend(plan);
  line["plan_TFLOP_per_s"] = plan_flops / line["plan_ms"].get<double>() / 1e9;

  line["far_tiles"] = prompt.calibrate(settings.far_tiles);
  ops::AttentionOutput output = prompt.resident();
  const at::Tensor tiles = prompt.select(output);
  line["index_ms"] = median_ms([&] { prompt.project(); }, runs);
  line["resident_ms"] = median_ms([&] { prompt.resident(); }, runs);
  line["selection_ms"] = median_ms([&] { prompt.select(output); }, runs);
  line["selected_ms"] = median_ms([&] { prompt.selected(tiles, output); }, runs);
  line["tiles_ms"] = median_ms(
      [&] {
        prompt.project();
        ops::AttentionOutput whole = prompt.resident();
        prompt.selected(prompt.select(whole), whole);
      },
      runs);
  for (const Rival& rival : rivals()) {
    const double ms = line[rival.name + "_ms"].get<double>();
    line["plan_vs_" + rival.name] = ms / line["plan_ms"].get<double>();
    line["tiles_vs_" + rival.name] = ms / line["tiles_ms"].get<double>();
  }
  return line;
}

}  // namespace

void bench_prefill(const Settings& settings, const OnLine& on_line) {
  for (const LayerShape& shape : settings.shapes) {
    Settings warm_up = settings;
    warm_up.runs = 1;
    measure(shape, 16384, warm_up);
    for (const int64_t tokens : settings.lengths) {
      on_line(measure(shape, tokens, settings));
      c10::cuda::CUDACachingAllocator::emptyCache();
    }
  }
}

Line describe_machine() {
  cudaDeviceProp properties{};
  int driver = 0;
  cudaGetDeviceProperties(&properties, c10::cuda::current_device());
  cudaDriverGetVersion(&driver);
  return {{"gpu", properties.name}, {"multiprocessors", properties.multiProcessorCount},
          {"driver_cuda", driver},  {"runtime_cuda", CUDART_VERSION},
          {"torch", TORCH_VERSION}, {"copy_TB_per_s", copy_bandwidth()}};
}

}  // namespace retrosparse::bench
