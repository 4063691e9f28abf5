#include "plan/machine.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>

namespace retrosparse {
namespace {

constexpr double kMiB = 1 << 20;

// Shares of the datasheet's figures that a conversion of mini at 32,768 tokens reached on an H200.
constexpr double kProductEfficiency = 0.4;
constexpr double kFloat32Efficiency = 0.5;
constexpr double kBandwidthEfficiency = 0.45;
constexpr double kLaunchSeconds = 6e-6;

// Shares of a product's and a copy's speed that a conversion of nano at 4,096 tokens reached on one core.
constexpr double kCpuEfficiency = 0.5;

// What cuBLAS is given to work with by libtorch: 32 MiB on compute capability 9.0, else 8.1 MiB.
constexpr double kCublasWorkspace9 = 4096.0 * 8 * 1024, kCublasWorkspace = 4096.0 * 2 * 1024 + 16.0 * 8 * 1024;

// Resident of the program besides a model's tensors, measured while nano was profiled at 512 tokens: code and tables of
// libtorch, tokenizer, and the text, 2 MB of it; with CUDA its libraries too, which are loaded whatever runs.
#ifdef RETROSPARSE_WITH_CUDA
constexpr double kProgram = 370 * kMiB;
#else
constexpr double kProgram = 140 * kMiB;
#endif

// The best of several attempts: what else runs on this machine should not count.
double seconds_of(const auto& work) {
  constexpr int kAttempts = 10;
  double best = std::numeric_limits<double>::infinity();
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

}  // namespace

Machine machine_of(const Gpu& gpu, double element_size) {
  Machine machine;
  machine.name = gpu.name;
  machine.memory_bytes = gpu.memory_bytes;
  const bool is_half = element_size < 4;
  machine.product_flops_per_second =
      is_half ? kProductEfficiency * gpu.bf16_flops_per_second : kFloat32Efficiency * gpu.fp32_flops_per_second;
  machine.float32_flops_per_second = kFloat32Efficiency * gpu.fp32_flops_per_second;
  machine.bytes_per_second = kBandwidthEfficiency * gpu.bytes_per_second;
  machine.launch_seconds = kLaunchSeconds;
  const bool is_hopper = gpu.compute_capability == 9.0;
  machine.product_scratch_bytes = is_hopper ? kCublasWorkspace9 : kCublasWorkspace;
  machine.has_own_kernels = is_hopper && is_half;
  return machine;
}

Machine this_cpu() {
  Machine machine;
  machine.name = fmt::format("this CPU, {} threads", at::get_num_threads());
  machine.is_cpu = true;
  machine.memory_bytes = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  machine.base_bytes = kProgram;
  constexpr int64_t kSize = 512, kElements = int64_t{1} << 22;
  const at::Tensor a = at::ones({kSize, kSize}), b = at::ones({kElements});
  at::Tensor product = at::empty({kSize, kSize}), copy = at::empty({kElements});
  machine.float32_flops_per_second =
      kCpuEfficiency * 2.0 * kSize * kSize * kSize / seconds_of([&] { at::mm_out(product, a, a); });
  machine.product_flops_per_second = machine.float32_flops_per_second;
  machine.bytes_per_second = kCpuEfficiency * 2.0 * 4 * kElements / seconds_of([&] { copy.copy_(b); });
  constexpr int kSmall = 200;
  const at::Tensor small = at::ones({8});
  machine.launch_seconds = seconds_of([&] {
                             for (int i = 0; i < kSmall; ++i) {
                               small.add(1);
                             }
                           }) /
                           kSmall;
  return machine;
}

}  // namespace retrosparse
