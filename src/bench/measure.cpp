#include "bench/measure.h"

#include <ATen/ATen.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>

namespace retrosparse::bench {
namespace {

float timed_ms(const std::function<void()>& run) {
  at::cuda::CUDAEvent begin(cudaEventDefault);
  at::cuda::CUDAEvent end(cudaEventDefault);
  begin.record();
  run();
  end.record();
  end.synchronize();
  return begin.elapsed_time(end);
}

double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace

double median_ms(const std::function<void()>& run, int runs) {
  if (runs > 1) {
    run();
  }
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    times.push_back(timed_ms(run));
  }
  return median(times);
}

double graph_us(const std::vector<std::function<void()>>& layers, int replays) {
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  c10::cuda::device_synchronize();
  const c10::cuda::CUDAStreamGuard guard(stream);
  const auto all = [&] {
    for (const auto& layer : layers) {
      layer();
    }
  };
  all();  // allocates workspaces, loads code
  c10::cuda::device_synchronize();
  at::cuda::CUDAGraph graph;
  graph.capture_begin();
  all();
  graph.capture_end();
  const double ms = median_ms([&] { graph.replay(); }, replays);
  c10::cuda::device_synchronize();
  return 1e3 * ms / static_cast<double>(layers.size());
}

double copy_bandwidth() {
  const at::Tensor from = at::randn({int64_t{1} << 28}, at::kCUDA);
  at::Tensor to = at::empty_like(from);
  const double ms = median_ms([&] { to.copy_(from); }, 15);
  return 2 * static_cast<double>(from.nbytes()) / ms / 1e9;
}

}  // namespace retrosparse::bench
