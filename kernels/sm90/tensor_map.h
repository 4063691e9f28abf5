#pragma once
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace retrosparse::kernels::sm90 {

/// A bf16 tensor [tokens, heads, head_dim] whose last dimension is contiguous.
struct TokenTensor {
  const void* data;
  int64_t tokens, heads, head_dim;
  int64_t token_stride, head_stride;  ///< in elements
};

/// Describes `tensor` to the tensor memory accelerator with the coordinates (column of 64, token, 64-column half of the
/// head, head). A box holds 64 columns of `box_tokens` tokens for `box_halves` halves, each half as rows of 128 bytes
/// in the 128-byte swizzle that wgmma reads; what lies outside the tensor arrives as zeros. Fails with
/// cudaErrorInvalidValue when address or strides are not multiples of 16 bytes.
cudaError_t make_token_map(const TokenTensor& tensor, int32_t box_tokens, int32_t box_halves, CUtensorMap& map);

/// Describes index keys [groups, tokens, 16] binary16, contiguous, of which every `stride`-th token is a row:
/// coordinates (dimension, row, group, 0); boxes of 16 dimensions of `box_rows` rows of 32 bytes in the 32-byte
/// swizzle.
cudaError_t make_index_map(const void* data, int64_t tokens, int64_t groups, int32_t stride, int32_t box_rows,
                           CUtensorMap& map);

}  // namespace retrosparse::kernels::sm90
