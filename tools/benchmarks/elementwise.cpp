// Speed of the memory-bound operations beside libtorch's: median time, and bytes that have to move over it.
//
//   elementwise_benchmark [cpu|cuda]
//
// Every call works on the next of several inputs, which together are larger than any cache.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/cuda.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <vector>

#include "ops/rms_norm.h"
#include "ops/rope.h"

namespace {

using retrosparse::ops::apply_rope;
using retrosparse::ops::rms_norm;

constexpr int64_t kInputBytes = int64_t{1} << 30;  ///< of all inputs together
constexpr int kCallsPerSample = 8;                 ///< so that launches overlap and the clock's step does not matter

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void wait_for(at::Device device) {
  if (device.is_cuda()) {
    torch::cuda::synchronize();
  }
}

/// Median seconds per call over `samples` samples after one that warms up.
double median_seconds(at::Device device, int samples, const std::function<void(int call)>& call) {
  std::vector<double> times;
  for (int sample = -1; sample < samples; ++sample) {
    wait_for(device);
    const double begin = seconds();
    for (int i = 0; i < kCallsPerSample; ++i) {
      call((sample + 1) * kCallsPerSample + i);
    }
    wait_for(device);
    if (sample >= 0) {
      times.push_back((seconds() - begin) / kCallsPerSample);
    }
  }
  std::nth_element(times.begin(), times.begin() + samples / 2, times.end());
  return times[samples / 2];
}

/// What Hugging Face's apply_rotary_pos_emb computes.
at::Tensor composed_rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const auto halves = x.chunk(2, -1);
  return x * cos + at::cat({-halves[1], halves[0]}, -1) * sin;
}

void print_row(const std::string& operation, const at::Tensor& x, double ours, double theirs) {
  const double bytes = 2.0 * static_cast<double>(x.nbytes());
  std::cout << fmt::format("{:<9} {:<8} {:<18} {:>9.1f} us {:>8.1f} GB/s   libtorch {:>9.1f} us   {:>5.2f} x\n",
                           operation, c10::toString(x.scalar_type()), fmt::format("[{}]", fmt::join(x.sizes(), ", ")),
                           ours * 1e6, bytes / ours * 1e-9, theirs * 1e6, theirs / ours)
            << std::flush;
}

std::vector<at::Tensor> inputs(at::IntArrayRef shape, at::TensorOptions options) {
  const at::Tensor first = at::randn(shape, options.dtype(at::kFloat)).to(options.dtype());
  const int64_t count = std::max<int64_t>(2, kInputBytes / static_cast<int64_t>(first.nbytes()));
  std::vector<at::Tensor> result = {first};
  while (static_cast<int64_t>(result.size()) < count) {
    result.push_back(first.clone());
  }
  return result;
}

void compare_rms_norm(at::Device device, at::ScalarType dtype, int64_t rows, int64_t dim) {
  const at::TensorOptions options = at::TensorOptions(device).dtype(dtype);
  const auto x = inputs({rows, dim}, options);
  const at::Tensor weight = at::ones({dim}, options);
  const int samples = device.is_cuda() ? 20 : 5;
  const auto pick = [&](int call) { return x[call % x.size()]; };
  const double ours = median_seconds(device, samples, [&](int call) { rms_norm(pick(call), weight, 1e-6); });
  const double theirs =
      median_seconds(device, samples, [&](int call) { at::rms_norm(pick(call), {dim}, weight, 1e-6); });
  print_row("rms_norm", x[0], ours, theirs);
}

void compare_rope(at::Device device, at::ScalarType dtype, int64_t tokens, int64_t heads, int64_t head_dim) {
  const at::TensorOptions options = at::TensorOptions(device).dtype(dtype);
  const auto x = inputs({tokens, heads, head_dim}, options);
  const at::Tensor cos = at::rand({tokens, head_dim / 2}, options.dtype(at::kFloat));
  const at::Tensor whole = at::cat({cos, cos}, -1).unsqueeze(1).to(dtype);
  const int samples = device.is_cuda() ? 20 : 5;
  const auto pick = [&](int call) { return x[call % x.size()]; };
  const double ours = median_seconds(device, samples, [&](int call) { apply_rope(pick(call), cos, cos); });
  const double theirs = median_seconds(device, samples, [&](int call) { composed_rope(pick(call), whole, whole); });
  print_row("rope", x[0], ours, theirs);
}

}  // namespace

int main(int argc, char** argv) {
  const at::Device device(argc > 1 ? argv[1] : torch::cuda::is_available() ? "cuda" : "cpu");
  const c10::InferenceMode inference;
  if (device.is_cuda()) {
    for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
      compare_rms_norm(device, dtype, 32768, 4096);
      compare_rms_norm(device, dtype, 32768 * 32, 128);
      compare_rms_norm(device, dtype, 32768 * 16, 64);
      compare_rms_norm(device, dtype, 32768, 1023);
      compare_rms_norm(device, dtype, 1, 4096);
      compare_rope(device, dtype, 32768, 32, 128);
      compare_rope(device, dtype, 32768, 2, 64);
      compare_rope(device, dtype, 1, 32, 128);
    }
  } else {
    std::cout << at::get_num_threads() << " threads\n";
    compare_rms_norm(device, at::kFloat, 4096, 1024);
    compare_rms_norm(device, at::kFloat, 4096 * 16, 64);
    compare_rms_norm(device, at::kFloat, 1, 1024);
    compare_rms_norm(device, at::kBFloat16, 4096, 1024);
    compare_rope(device, at::kFloat, 4096, 16, 64);
    compare_rope(device, at::kFloat, 1, 16, 64);
  }
  return 0;
}
