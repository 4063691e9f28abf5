#include "model/peak_memory.h"

#include <ATen/DeviceAccelerator.h>
#include <malloc.h>

#include <fstream>
#include <string>

namespace retrosparse {

uint64_t peak_memory(at::Device device) {
  if (device.is_cuda()) {
    const auto stats = at::accelerator::getDeviceStats(device.index());
    return static_cast<uint64_t>(stats.allocated_bytes[0].peak);  // [0]: of all pools together
  }
  // Not getrusage: its maximum is that of the parent too, where that was larger when it forked.
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) {
      return std::stoull(line.substr(line.find_first_of("0123456789"))) * 1024;  // "VmHWM:    1234 kB"
    }
  }
  return 0;
}

void restart_peak_memory(at::Device device) {
  if (device.is_cuda()) {
    if (at::getDeviceAllocator(device.type())->initialized()) {  // else nothing was held so far
      at::accelerator::resetPeakStats(device.index());
    }
    return;
  }
  ::malloc_trim(0);                             // what was freed counts no longer
  std::ofstream("/proc/self/clear_refs") << 5;  // sets VmHWM to what is resident now: proc(5)
}

}  // namespace retrosparse
