#include "ops/kernel_use.h"

#include <atomic>

#include "ops/binding.h"

namespace retrosparse::ops {
namespace {

std::atomic<KernelUse> kernel_use{KernelUse::kAll};

}  // namespace

KernelUse use_attention_kernels(KernelUse use) {
  return kernel_use.exchange(use);
}

bool attention_kernels_serve([[maybe_unused]] const at::Tensor& q, [[maybe_unused]] KernelUse least) {
#ifdef RETROSPARSE_WITH_CUDA
  const int64_t num_heads = q.size(1), head_dim = q.size(2);
  return kernel_use.load() >= least && q.is_cuda() && q.scalar_type() == at::kBFloat16 && num_heads <= 256 &&
         (head_dim == 64 || head_dim == 128) && !needs_gradient(q) && is_hopper(q.device());
#else
  return false;
#endif
}

}  // namespace retrosparse::ops
