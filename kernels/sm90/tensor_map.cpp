#include "sm90/tensor_map.h"

namespace retrosparse::kernels::sm90 {
namespace {

constexpr int64_t kHalf = 64;  // columns of one swizzled row: 128 bytes of bf16

/// The driver's encoder through the runtime library, so that nothing links libcuda (absent on machines without a GPU).
cudaError_t find_encoder(decltype(&cuTensorMapEncodeTiled)& encoder) {
  static decltype(&cuTensorMapEncodeTiled) found = nullptr;
  if (found == nullptr) {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &result);
    if (error != cudaSuccess) {
      return error;
    }
    if (result != cudaDriverEntryPointSuccess) {
      return cudaErrorNotSupported;
    }
    found = reinterpret_cast<decltype(found)>(entry);
  }
  encoder = found;
  return cudaSuccess;
}

struct Format {
  CUtensorMapDataType type;
  CUtensorMapSwizzle swizzle;
};

/// A four-dimensional map; sizes and box in elements, strides (of all dimensions but the first) in bytes.
cudaError_t encode(const Format& format, const void* data, const cuuint64_t (&sizes)[4], const cuuint64_t (&strides)[3],
                   const cuuint32_t (&box)[4], CUtensorMap& map) {
  decltype(&cuTensorMapEncodeTiled) encoder = nullptr;
  if (const cudaError_t error = find_encoder(encoder); error != cudaSuccess) {
    return error;
  }
  const cuuint32_t steps[] = {1, 1, 1, 1};
  const CUresult result =
      encoder(&map, format.type, 4, const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
              format.swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace

cudaError_t make_token_map(const TokenTensor& tensor, int32_t box_tokens, int32_t box_halves, CUtensorMap& map) {
  const auto bytes = [](int64_t elements) { return static_cast<cuuint64_t>(elements) * 2; };
  // The stride of a dimension of one element is never used, but has to be valid.
  const int64_t token_stride = tensor.tokens > 1 ? tensor.token_stride : tensor.head_dim;
  const int64_t head_stride = tensor.heads > 1 ? tensor.head_stride : tensor.head_dim;
  const cuuint64_t sizes[] = {kHalf, static_cast<cuuint64_t>(tensor.tokens),
                              static_cast<cuuint64_t>(tensor.head_dim / kHalf), static_cast<cuuint64_t>(tensor.heads)};
  const cuuint64_t strides[] = {bytes(token_stride), bytes(kHalf), bytes(head_stride)};
  const cuuint32_t box[] = {kHalf, static_cast<cuuint32_t>(box_tokens), static_cast<cuuint32_t>(box_halves), 1};
  return encode({CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_SWIZZLE_128B}, tensor.data, sizes, strides, box, map);
}

cudaError_t make_index_map(const void* data, int64_t tokens, int64_t groups, int32_t stride, int32_t box_rows,
                           CUtensorMap& map) {
  constexpr cuuint64_t kIndexBytes = 32;
  const auto count = [](int64_t value) { return static_cast<cuuint64_t>(value); };
  const cuuint64_t sizes[] = {16, count((tokens + stride - 1) / stride), count(groups), 1};
  const cuuint64_t strides[] = {kIndexBytes * count(stride), kIndexBytes * count(tokens),
                                kIndexBytes * count(tokens) * count(groups)};
  const cuuint32_t box[] = {16, static_cast<cuuint32_t>(box_rows), 1, 1};
  return encode({CU_TENSOR_MAP_DATA_TYPE_FLOAT16, CU_TENSOR_MAP_SWIZZLE_32B}, data, sizes, strides, box, map);
}

}  // namespace retrosparse::kernels::sm90
