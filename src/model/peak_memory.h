#pragma once
#include <c10/core/Device.h>

#include <cstdint>

namespace retrosparse {

/// The most memory, in bytes, that this process has held so far: resident on the CPU, or taken by libtorch on a GPU.
uint64_t peak_memory(at::Device device);

}  // namespace retrosparse
