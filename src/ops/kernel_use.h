#pragma once
#include <ATen/core/Tensor.h>

namespace retrosparse::ops {

/// Which attention of a model runs on GPU kernels of our own, where they serve.
enum class KernelUse {
  kOff,      ///< none: libtorch's operations, to compare
  kPrefill,  ///< prefill only
  kAll,      ///< prefill and decode (the default)
};

/// Applies to the whole process from now on. Returns what was the case before.
KernelUse use_attention_kernels(KernelUse use);

/// Sets it while it lives.
class ScopedKernelUse {
 public:
  explicit ScopedKernelUse(KernelUse use) : before_(use_attention_kernels(use)) {}
  ~ScopedKernelUse() { use_attention_kernels(before_); }
  ScopedKernelUse(const ScopedKernelUse&) = delete;
  ScopedKernelUse& operator=(const ScopedKernelUse&) = delete;

 private:
  KernelUse before_;
};

/// Whether kernels run for queries [n, num_heads, head_dim], with `least` or more in use: bfloat16 on a GPU of compute
/// capability 9.0, head_dim 64 or 128, at most 256 heads, and no gradient wanted.
bool attention_kernels_serve(const at::Tensor& q, KernelUse least);

}  // namespace retrosparse::ops
