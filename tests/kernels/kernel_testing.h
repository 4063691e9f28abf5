#pragma once
// Arrays of any element type on the host and the device, and what every kernel test checks with them.
#include <gtest/gtest.h>
#include <retrosparse_kernels/dtype.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "reference/numeric.h"
#ifdef RETROSPARSE_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace retrosparse::kernels::testing {

inline const std::vector<Dtype> kAllDtypes = {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBfloat16};

inline std::string name_of(Dtype dtype) {
  return dtype == Dtype::kFloat32 ? "float32" : dtype == Dtype::kFloat16 ? "float16" : "bfloat16";
}

/// Half a unit in the last place, relative to the value.
inline double rounding_error(Dtype dtype) {
  return dtype == Dtype::kFloat32 ? 0x1p-24 : dtype == Dtype::kFloat16 ? 0x1p-11 : 0x1p-8;
}

/// Elements of one type, starting `offset` elements after an aligned address, every bit set at first: NaN in all types.
class Array {
 public:
  Array(Dtype dtype, int64_t size, int64_t offset = 0)
      : dtype_(dtype), size_(size), offset_(offset), bytes_(size_of(dtype) * (size + offset), 0xff) {}

  /// Normally distributed values.
  static Array normal(Dtype dtype, int64_t size, uint32_t seed, int64_t offset = 0) {
    Array array(dtype, size, offset);
    std::mt19937 generator(seed);
    std::normal_distribution<float> distribution;
    for (int64_t i = 0; i < size; ++i) {
      array.set(i, distribution(generator));
    }
    return array;
  }

  int64_t size() const { return size_; }
  void* data() { return bytes_.data() + size_of(dtype_) * offset_; }
  const void* data() const { return bytes_.data() + size_of(dtype_) * offset_; }
  std::vector<uint8_t>& bytes() { return bytes_; }
  int64_t offset_in_bytes() const { return size_of(dtype_) * offset_; }

  float at(int64_t i) const {
    switch (dtype_) {
      case Dtype::kFloat32:
        return static_cast<const float*>(data())[i];
      case Dtype::kFloat16:
        return reference::to_float(static_cast<const reference::Float16*>(data())[i]);
      case Dtype::kBfloat16:
        return reference::to_float(static_cast<const reference::Bfloat16*>(data())[i]);
    }
    return NAN;
  }

  void set(int64_t i, float value) {
    switch (dtype_) {
      case Dtype::kFloat32:
        static_cast<float*>(data())[i] = value;
        break;
      case Dtype::kFloat16:
        static_cast<reference::Float16*>(data())[i] = reference::from_float<reference::Float16>(value);
        break;
      case Dtype::kBfloat16:
        static_cast<reference::Bfloat16*>(data())[i] = reference::from_float<reference::Bfloat16>(value);
        break;
    }
  }

  bool is_untouched(int64_t i) const {
    const auto* element = static_cast<const uint8_t*>(data()) + size_of(dtype_) * i;
    return std::all_of(element, element + size_of(dtype_), [](uint8_t byte) { return byte == 0xff; });
  }

  bool operator==(const Array& other) const { return bytes_ == other.bytes_; }

 private:
  Dtype dtype_;
  int64_t size_, offset_;
  std::vector<uint8_t> bytes_;
};

/// Two rounded results of the same formula: float32 results differ by the order of sums; 16-bit results are equal but
/// for rare values that fall on the other side of a rounding boundary, then by one unit in the last place per rounding.
inline void expect_same_up_to_rounding(const Array& found, const Array& expected, Dtype dtype, int roundings) {
  ASSERT_EQ(found.size(), expected.size());
  const bool is_float32 = dtype == Dtype::kFloat32;
  const double tolerance = is_float32 ? 2e-6 : 2.0 * roundings * rounding_error(dtype);
  int64_t different = 0;
  for (int64_t i = 0; i < found.size(); ++i) {
    if (expected.is_untouched(i)) {
      ASSERT_TRUE(found.is_untouched(i)) << "element " << i << " is outside of the output but was written";
      continue;
    }
    const double limit = tolerance * std::abs(expected.at(i)) + (is_float32 ? 1e-6 : 1e-4);
    ASSERT_LE(std::abs(static_cast<double>(found.at(i)) - expected.at(i)), limit) << "element " << i;  // NaN fails
    different += found.at(i) != expected.at(i) ? 1 : 0;
  }
  if (!is_float32) {
    EXPECT_LE(different, 2 + found.size() / 200);
  }
}

#ifdef RETROSPARSE_WITH_CUDA
inline bool has_gpu() {
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}

/// A copy of an array in device memory, as far from an aligned address as the array is.
class DeviceArray {
 public:
  explicit DeviceArray(const Array& array) : array_(array) {
    EXPECT_EQ(cudaMalloc(&memory_, array_.bytes().size()), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(memory_, array_.bytes().data(), array_.bytes().size(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(memory_); }

  void* data() { return static_cast<uint8_t*>(memory_) + array_.offset_in_bytes(); }

  /// Waits for the device and copies back.
  Array fetch() const {
    Array result = array_;
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(result.bytes().data(), memory_, result.bytes().size(), cudaMemcpyDeviceToHost), cudaSuccess);
    return result;
  }

 private:
  Array array_;
  void* memory_ = nullptr;
};
#endif

}  // namespace retrosparse::kernels::testing

/// First statement of a test that needs a GPU.
#define RETROSPARSE_REQUIRE_GPU()                     \
  if (!retrosparse::kernels::testing::has_gpu()) {    \
    GTEST_SKIP() << "no CUDA device on this machine"; \
  }
