#include "ops/kernel_use.h"

#include <atomic>

#include "ops/binding.h"

namespace retrosparse::ops {
namespace {

std::atomic<bool> kernels_allowed{true};

}  // namespace

bool allow_attention_kernels(bool allowed) {
  return kernels_allowed.exchange(allowed);
}

bool attention_kernels_serve([[maybe_unused]] const at::Tensor& q) {
#ifdef RETROSPARSE_WITH_CUDA
  const int64_t num_heads = q.size(1), head_dim = q.size(2);
  return kernels_allowed && q.is_cuda() && q.scalar_type() == at::kBFloat16 && num_heads <= 256 &&
         (head_dim == 64 || head_dim == 128) && !needs_gradient(q) && is_hopper(q.device());
#else
  return false;
#endif
}

}  // namespace retrosparse::ops
