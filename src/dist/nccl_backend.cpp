#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "dist/backend.h"

namespace retrosparse::dist {

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store, const Launch& launch,
                                                    c10::Device device, std::chrono::milliseconds timeout) {
  c10::cuda::set_device(device.index());
  const auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, launch.rank, launch.world_size, options);
  backend->setBoundDeviceId(device);
  backend->eagerConnectSingleDevice(
      device);  // a GPU that cannot be reached is to show now, not at the first collective
  return backend;
}

}  // namespace retrosparse::dist
