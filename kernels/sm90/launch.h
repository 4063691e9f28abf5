#pragma once
#include <cuda_runtime_api.h>

namespace retrosparse::kernels::sm90 {

/// Launches `kernel` so that its blocks may start while the launch before it on the stream still runs (programmatic
/// dependent launch). The kernel has to call wait_for_previous_launch() before it touches what others write or read.
template <class... Params, class... Arguments>
cudaError_t launch_overlapping(void (*kernel)(Params...), dim3 grid, unsigned threads, size_t shared_bytes,
                               cudaStream_t stream, const Arguments&... arguments) {
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace retrosparse::kernels::sm90
