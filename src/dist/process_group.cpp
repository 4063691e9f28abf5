#include "dist/process_group.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <algorithm>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#ifdef RETROSPARSE_WITH_CUDA
#include <c10/cuda/CUDAFunctions.h>
#endif

#include "base/error.h"
#include "dist/backend.h"
#include "dist/rendezvous.h"

namespace retrosparse::dist {
namespace {

constexpr std::chrono::seconds kGoodbyeTimeout(60);

/// The first line of a message of c10d or Gloo, without the places in their sources: "[/path/file.cc:12] ".
std::string reason(std::string_view message) {
  std::string line(message.substr(0, message.find('\n')));
  for (size_t begin = 0; (begin = line.find("[/", begin)) != std::string::npos;) {
    const size_t end = line.find("] ", begin);
    line.erase(begin, end == std::string::npos ? end : end + 2 - begin);
  }
  return line;
}

/// Runs a step that all processes take, turning what c10d and Gloo throw into an Error.
template <class Step>
auto together(const Launch& launch, std::string_view name, const Step& step) {
  const auto failed = [&](std::string_view message) {
    return Error(fmt::format("{} failed on rank {} of {}", name, launch.rank, launch.world_size))
        .found(reason(message))
        .hint("another process may have failed first: see its message");
  };
  try {
    return step();
  } catch (const c10::Error& error) {
    throw failed(error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw failed(error.what());
  }
}

/// `device` with the index of the GPU that is this process's.
at::Device resolve(at::Device device, const Launch& launch) {
  if (!device.is_cuda()) {
    return device;
  }
#ifdef RETROSPARSE_WITH_CUDA
  const int gpus = c10::cuda::device_count();
#else
  const int gpus = 0;
#endif
  const int index = device.has_index() ? device.index() : launch.local_rank;
  if (index >= gpus) {
    throw Error(fmt::format("rank {} of {} has no GPU", launch.rank, launch.world_size))
        .expected(fmt::format("cuda:{}", index))
        .found(fmt::format("{} GPUs", gpus))
        .hint("start at most one process per GPU, or use the CPU");
  }
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

}  // namespace

struct ProcessGroup::State {
  Launch launch;
  at::Device device = at::kCPU;
  std::optional<Rendezvous> rendezvous;  ///< nothing in a process on its own
  c10::intrusive_ptr<c10d::Backend> backend;

  ~State() {
    if (backend == nullptr) {
      return;
    }
    const bool in_order = std::uncaught_exceptions() == 0;
    try {
      in_order ? backend->shutdown() : backend->abort();
    } catch (const std::exception&) {
      // The processes part anyway; whatever mattered was reported by the collective that failed.
    }
    if (in_order) {
      rendezvous->leave(kGoodbyeTimeout);
    }
  }

  bool is_alone() const { return backend == nullptr; }

  /// Runs a collective that overwrites a dense tensor on the group's device, on `tensor` of any layout.
  template <class Collective>
  void in_place(const at::Tensor& tensor, std::string_view name, const Collective& collective) const {
    require_device(tensor, name);
    together(launch, name, [&] {
      std::vector<at::Tensor> dense = {tensor.detach().contiguous()};
      collective(dense)->wait();
      if (!dense[0].is_alias_of(tensor)) {
        tensor.detach().copy_(dense[0]);
      }
    });
  }

  void require_device(const at::Tensor& tensor, std::string_view name) const {
    if (tensor.device() != device) {
      throw std::invalid_argument(
          fmt::format("{}: expected a tensor on {}, found one on {}", name, device.str(), tensor.device().str()));
    }
  }
};

ProcessGroup ProcessGroup::from_environment(at::Device device, Timeouts timeouts) {
  auto state = std::make_unique<State>();
  const std::optional<Launch> launch = read_launch();
  state->launch = launch.value_or(Launch());
  state->device = resolve(device, state->launch);
  if (launch) {
    state->rendezvous.emplace(*launch, timeouts.connect);
    state->backend = together(*launch, "connecting the processes", [&] {
      const auto& store = state->rendezvous->store();
#ifdef RETROSPARSE_WITH_CUDA
      if (state->device.is_cuda()) {
        return make_nccl_backend(store, *launch, state->device, timeouts.collective);
      }
#endif
      return make_gloo_backend(store, *launch, timeouts.collective);
    });
  }
  return ProcessGroup(std::move(state));
}

ProcessGroup::ProcessGroup(std::unique_ptr<State> state) : state_(std::move(state)) {}
ProcessGroup::~ProcessGroup() = default;
ProcessGroup::ProcessGroup(ProcessGroup&&) noexcept = default;
ProcessGroup& ProcessGroup::operator=(ProcessGroup&&) noexcept = default;

int ProcessGroup::rank() const {
  return state_->launch.rank;
}
int ProcessGroup::world_size() const {
  return state_->launch.world_size;
}
int ProcessGroup::local_rank() const {
  return state_->launch.local_rank;
}
bool ProcessGroup::is_main() const {
  return rank() == 0;
}
at::Device ProcessGroup::device() const {
  return state_->device;
}

void ProcessGroup::all_reduce_sum(const at::Tensor& tensor) const {
  if (state_->is_alone()) {
    return;
  }
  state_->in_place(tensor, "all_reduce_sum",
                   [&](std::vector<at::Tensor>& tensors) { return state_->backend->allreduce(tensors); });
}

void ProcessGroup::all_reduce_mean(const at::Tensor& tensor) const {
  if (!at::isFloatingType(tensor.scalar_type())) {
    throw std::invalid_argument(fmt::format("all_reduce_mean: expected a floating-point tensor, found {}",
                                            c10::toString(tensor.scalar_type())));
  }
  all_reduce_sum(tensor);
  tensor.detach().div_(world_size());  // Gloo has no mean of its own
}

at::Tensor ProcessGroup::all_gather(const at::Tensor& tensor) const {
  const at::Tensor mine = tensor.detach();
  if (state_->is_alone()) {
    return mine.unsqueeze(0).clone();
  }
  state_->require_device(tensor, "all_gather");
  return together(state_->launch, "all_gather", [&] {
    std::vector<at::Tensor> input = {mine.contiguous()};
    std::vector<int64_t> shape = mine.sizes().vec();
    shape.insert(shape.begin(), world_size());
    const at::Tensor all = at::empty(shape, mine.options());
    std::vector<std::vector<at::Tensor>> output = {all.unbind(0)};
    state_->backend->allgather(output, input)->wait();
    return all;
  });
}

void ProcessGroup::broadcast(const at::Tensor& tensor) const {
  if (state_->is_alone()) {
    return;
  }
  state_->in_place(tensor, "broadcast",
                   [&](std::vector<at::Tensor>& tensors) { return state_->backend->broadcast(tensors); });
}

void ProcessGroup::barrier() const {
  if (state_->is_alone()) {
    return;
  }
  together(state_->launch, "barrier", [&] { state_->backend->barrier()->wait(); });
}

void ProcessGroup::wait_for_main() const {
  if (state_->is_alone()) {
    return;
  }
  together(state_->launch, "waiting for rank 0", [&] { state_->rendezvous->wait_for_main(); });
}

}  // namespace retrosparse::dist
