#pragma once
#include <ATen/core/Tensor.h>

namespace retrosparse::ops {

/// Lets attention run on our GPU kernels where they serve (the default), or keeps it to libtorch's operations, to
/// compare the two. Applies to the whole process. Returns what was the case before.
bool allow_attention_kernels(bool allowed);

/// Keeps attention to libtorch's operations while it lives.
class WithoutAttentionKernels {
 public:
  WithoutAttentionKernels() : allowed_before_(allow_attention_kernels(false)) {}
  ~WithoutAttentionKernels() { allow_attention_kernels(allowed_before_); }
  WithoutAttentionKernels(const WithoutAttentionKernels&) = delete;
  WithoutAttentionKernels& operator=(const WithoutAttentionKernels&) = delete;

 private:
  bool allowed_before_;
};

/// Whether the attention kernels run for queries [n, num_heads, head_dim]: they are allowed, bfloat16 on a GPU of
/// compute capability 9.0, head_dim 64 or 128, at most 256 heads, and no gradient wanted.
bool attention_kernels_serve(const at::Tensor& q);

}  // namespace retrosparse::ops
