#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "dist/backend.h"

namespace retrosparse::dist {
namespace {

auto make_device(const std::string& master_address) {
  if (const auto interface = process_environment("GLOO_SOCKET_IFNAME")) {
    return c10d::ProcessGroupGloo::createDeviceForInterface(*interface);
  }
  if (master_address == "localhost" || master_address.starts_with("127.") || master_address == "::1") {
    return c10d::ProcessGroupGloo::createDeviceForHostname(master_address);
  }
  return c10d::ProcessGroupGloo::createDefaultDevice();
}

}  // namespace

c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const c10::intrusive_ptr<c10d::Store>& store, const Launch& launch,
                                                    std::chrono::milliseconds timeout) {
  const auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  options->devices.push_back(make_device(launch.master_address));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, launch.rank, launch.world_size, options);
}

}  // namespace retrosparse::dist
