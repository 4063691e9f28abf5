#include "ops/binding.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <stdexcept>

#include "base/error.h"

namespace retrosparse::ops {

std::string describe(const at::Tensor& tensor) {
  if (!tensor.defined()) {
    return "an undefined tensor";
  }
  return fmt::format("{} [{}] on {}", c10::toString(tensor.scalar_type()), fmt::join(tensor.sizes(), ", "),
                     tensor.device().str());
}

void reject(std::string_view operation, std::string_view argument, std::string_view expected, std::string_view found) {
  throw std::invalid_argument(fmt::format("{}: {}: expected {}, found {}", operation, argument, expected, found));
}

kernels::Dtype kernel_dtype(const at::Tensor& tensor, std::string_view operation, std::string_view argument) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return kernels::Dtype::kFloat32;
    case at::kHalf:
      return kernels::Dtype::kFloat16;
    case at::kBFloat16:
      return kernels::Dtype::kBfloat16;
    default:
      reject(operation, argument, "Float, Half or BFloat16", describe(tensor));
  }
}

void require_device(const at::Tensor& tensor, at::Device device, std::string_view operation,
                    std::string_view argument) {
#ifdef RETROSPARSE_WITH_CUDA
  const bool supported = device.is_cpu() || device.is_cuda();
#else
  const bool supported = device.is_cpu();
#endif
  if (!supported) {
    reject(operation, argument, "a device that this build has kernels for", device.str());
  }
  if (tensor.device() != device) {
    reject(operation, argument, "a tensor on " + device.str(), describe(tensor));
  }
}

void require_tensor(const at::Tensor& tensor, at::ScalarType dtype, at::IntArrayRef sizes, at::Device device,
                    std::string_view operation, std::string_view argument) {
  if (!tensor.defined() || tensor.scalar_type() != dtype || tensor.sizes() != sizes) {
    reject(operation, argument, fmt::format("{} [{}]", c10::toString(dtype), fmt::join(sizes, ", ")), describe(tensor));
  }
  require_device(tensor, device, operation, argument);
}

bool needs_gradient(const at::Tensor& tensor) {
  return at::GradMode::is_enabled() && tensor.requires_grad();
}

#ifdef RETROSPARSE_WITH_CUDA
void check(cudaError_t status, std::string_view operation) {
  if (status == cudaSuccess) {
    return;
  }
  Error error(fmt::format("the CUDA kernel of {} could not be launched", operation));
  error.found(cudaGetErrorString(status));
  if (status == cudaErrorNoKernelImageForDevice) {
    error.hint("the kernels are built for Hopper GPUs, compute capability 9.0");
  }
  throw error;
}

bool is_hopper(at::Device device) {
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, device.index()), "a device query");
    return value;
  };
  return attribute(cudaDevAttrComputeCapabilityMajor) == 9 && attribute(cudaDevAttrComputeCapabilityMinor) == 0;
}
#endif

}  // namespace retrosparse::ops
