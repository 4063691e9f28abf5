#pragma once
#include <cstdint>

namespace retrosparse::kernels {

/// Element type of a tensor that a kernel reads or writes. Both 16-bit types are stored as their bit patterns.
enum class Dtype : uint8_t {
  kFloat32,
  kFloat16,   ///< IEEE binary16
  kBfloat16,  ///< the upper half of a binary32
};

/// Bytes per element.
constexpr int64_t size_of(Dtype dtype) {
  return dtype == Dtype::kFloat32 ? 4 : 2;
}

}  // namespace retrosparse::kernels
