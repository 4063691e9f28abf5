#pragma once
// What the attention tests share: raw device buffers, and how far a bf16 result may be from a float64 one.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/kernel_testing.h"

namespace retrosparse::kernels::testing {

/// ||found - expected|| / ||expected|| over the elements that the reference wrote; the others must be untouched. Both
/// sides hold bf16. Twice the error of a bf16 attention that rounds its weights and its output is 4e-3 to 5e-3.
inline void expect_close_attention(const Array& found, const Array& expected) {
  ASSERT_EQ(found.size(), expected.size());
  double error = 0;
  double norm = 0;
  for (int64_t i = 0; i < found.size(); ++i) {
    if (expected.is_untouched(i)) {
      ASSERT_TRUE(found.is_untouched(i)) << "element " << i << " is outside of the output but was written";
      continue;
    }
    const double difference = static_cast<double>(found.at(i)) - static_cast<double>(expected.at(i));
    ASSERT_FALSE(std::isnan(difference)) << "element " << i;
    error += difference * difference;
    norm += static_cast<double>(expected.at(i)) * static_cast<double>(expected.at(i));
  }
  EXPECT_LE(std::sqrt(error), 4.5e-3 * std::sqrt(norm) + 1e-30);
}

inline void expect_close_lse(const Array& found, const Array& expected, double tolerance) {
  for (int64_t i = 0; i < found.size(); ++i) {
    if (expected.is_untouched(i)) {
      ASSERT_TRUE(found.is_untouched(i)) << "lse " << i << " was written";
    } else if (std::isinf(expected.at(i))) {
      ASSERT_EQ(found.at(i), expected.at(i)) << "lse " << i;
    } else {
      ASSERT_NEAR(found.at(i), expected.at(i), tolerance) << "lse " << i;
    }
  }
}

#ifdef RETROSPARSE_WITH_CUDA
/// Plain values in device memory.
template <class T>
class DeviceVector {
 public:
  explicit DeviceVector(const std::vector<T>& values) : size_(values.size()) {
    EXPECT_EQ(cudaMalloc(&memory_, std::max<size_t>(1, size_) * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(memory_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  DeviceVector(const DeviceVector&) = delete;
  DeviceVector& operator=(const DeviceVector&) = delete;
  ~DeviceVector() { cudaFree(memory_); }

  T* data() { return static_cast<T*>(memory_); }
  std::vector<T> fetch() const {
    std::vector<T> values(size_);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(values.data(), memory_, size_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }

 private:
  size_t size_;
  void* memory_ = nullptr;
};
#endif

}  // namespace retrosparse::kernels::testing
