#pragma once
#include <c10/core/Device.h>
#include <c10/util/intrusive_ptr.h>

#include <chrono>

#include "dist/launch.h"

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace retrosparse::dist {

/// Collectives between CPUs, over TCP. The network interface is the one named by GLOO_SOCKET_IFNAME, else loopback
/// where MASTER_ADDR is, else the one that this machine's host name resolves to.
c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const c10::intrusive_ptr<c10d::Store>& store, const Launch& launch,
                                                    std::chrono::milliseconds timeout);

/// Collectives between GPUs; `device` is this process's, with its index. Only in a build with CUDA.
c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store, const Launch& launch,
                                                    c10::Device device, std::chrono::milliseconds timeout);

}  // namespace retrosparse::dist
