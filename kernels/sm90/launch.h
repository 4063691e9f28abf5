#pragma once
#include <cuda_runtime_api.h>

namespace retrosparse::kernels::sm90 {

/// As launch_overlapping() below, in clusters of `cluster` blocks along x.
template <class... Params, class... Arguments>
cudaError_t launch_overlapping_clusters(void (*kernel)(Params...), unsigned cluster, dim3 grid, unsigned threads,
                                        size_t shared_bytes, cudaStream_t stream, const Arguments&... arguments) {
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

/// Launches `kernel` so that its blocks may start while the launch before it on the stream still runs (programmatic
/// dependent launch). The kernel has to call wait_for_previous_launch() before it touches what others write or read.
template <class... Params, class... Arguments>
cudaError_t launch_overlapping(void (*kernel)(Params...), dim3 grid, unsigned threads, size_t shared_bytes,
                               cudaStream_t stream, const Arguments&... arguments) {
  return launch_overlapping_clusters(kernel, 1, grid, threads, shared_bytes, stream, arguments...);
}

}  // namespace retrosparse::kernels::sm90
