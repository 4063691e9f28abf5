#pragma once
#include <c10/core/Device.h>

#include <cstdint>

namespace retrosparse {

/// The most memory, in bytes, since the process began or restart_peak_memory(): on the CPU what was resident of the
/// process; on a GPU what its tensors held (what libtorch keeps beside them for the next ones it gives up when memory
/// runs short).
uint64_t peak_memory(at::Device device);

/// Measures from now on: peak_memory() begins at what is held at this moment. Without effect on the CPU where the
/// system does not let a process reset its maximum (not Linux, or /proc not writable).
void restart_peak_memory(at::Device device);

}  // namespace retrosparse
