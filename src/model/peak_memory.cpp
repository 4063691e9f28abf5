#include "model/peak_memory.h"

#include <ATen/DeviceAccelerator.h>
#include <sys/resource.h>

namespace retrosparse {

uint64_t peak_memory(at::Device device) {
  if (device.is_cuda()) {
    const auto stats = at::accelerator::getDeviceStats(device.index());
    return static_cast<uint64_t>(stats.reserved_bytes[0].peak);  // [0]: of all pools together
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;  // Linux counts in KiB
}

}  // namespace retrosparse
