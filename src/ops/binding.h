#pragma once
// What every operation needs to bind a kernel of retrosparse_kernels to tensors.
#include <ATen/core/Tensor.h>
#include <retrosparse_kernels/dtype.h>

#include <string>
#include <string_view>

#ifdef RETROSPARSE_WITH_CUDA
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#endif

namespace retrosparse::ops {

/// "Float [2, 3] on cuda:0"
std::string describe(const at::Tensor& tensor);

/// Throws std::invalid_argument "rms_norm: weight: expected EXPECTED, found FOUND". A wrong argument is a mistake of
/// the calling code: what a user can get wrong has been checked where it was read.
[[noreturn]] void reject(std::string_view operation, std::string_view argument, std::string_view expected,
                         std::string_view found);

/// The kernels' name of a float32, float16 or bfloat16 tensor's element type; rejects every other.
kernels::Dtype kernel_dtype(const at::Tensor& tensor, std::string_view operation, std::string_view argument);

/// Rejects an argument that is not on `device`, or a device that this build has no kernels for.
void require_device(const at::Tensor& tensor, at::Device device, std::string_view operation, std::string_view argument);

/// Rejects a tensor of another dtype, other sizes or on another device.
void require_tensor(const at::Tensor& tensor, at::ScalarType dtype, at::IntArrayRef sizes, at::Device device,
                    std::string_view operation, std::string_view argument);

/// Whether the operation is to be recorded for backward().
bool needs_gradient(const at::Tensor& tensor);

#ifdef RETROSPARSE_WITH_CUDA
/// Throws Error, naming the operation, if a kernel could not be launched.
void check(cudaError_t status, std::string_view operation);

/// Whether the device has compute capability 9.0, which the kernels of kernels/sm90 are made for.
bool is_hopper(at::Device device);

/// Calls launch(stream) with `device` current and its current stream.
template <class Launch>
void launch_on(at::Device device, std::string_view operation, const Launch& launch) {
  const c10::cuda::CUDAGuard guard(device);
  check(launch(c10::cuda::getCurrentCUDAStream(device.index()).stream()), operation);
}
#endif

}  // namespace retrosparse::ops
