#pragma once
#include <cuda_runtime_api.h>

namespace retrosparse::kernels::sm90 {

/// Launches `kernel` on a row of `blocks` blocks, in clusters of `cluster`, so that they may start while the launch
/// before it on the stream still runs (programmatic dependent launch). The kernel has to call
/// wait_for_previous_launch() before it touches what others write or read.
template <class... Params, class... Arguments>
cudaError_t launch_overlapping(void (*kernel)(Params...), unsigned cluster, dim3 grid, unsigned threads,
                               size_t shared_bytes, cudaStream_t stream, const Arguments&... arguments) {
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
  if (error != cudaSuccess) {
    return error;
  }
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {cluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = cluster > 1 ? 2 : 1;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

/// Multiprocessors of the current device, which plans depend on.
inline cudaError_t find_multiprocessors(int& multiprocessors) {
  int device = 0;
  const cudaError_t error = cudaGetDevice(&device);
  return error != cudaSuccess ? error
                              : cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
}

}  // namespace retrosparse::kernels::sm90
