#pragma once
#include <ATen/core/Tensor.h>

#include <chrono>
#include <memory>

namespace retrosparse::dist {

/// The processes that work on one run together, one per GPU or CPU socket. All of them have to call the same
/// collectives in the same order with tensors of the same shape and dtype; a group is used by one thread at a time. In
/// a group of one process every collective is the identity.
///
/// Every function throws Error, naming the rank and the collective, when it fails: another process died, or did not
/// arrive in time. On GPUs collectives are ordered on the current stream and return before they are done; there a
/// failure after the return ends the process with NCCL's message.
class ProcessGroup {
 public:
  struct Timeouts {
    std::chrono::milliseconds connect = std::chrono::minutes(5);      ///< until all processes have started
    std::chrono::milliseconds collective = std::chrono::minutes(30);  ///< until all have called the same collective
  };

  /// The group that torchrun's variables describe (see Launch): NCCL where `device` is a GPU, Gloo where it is the CPU.
  /// Without those variables the group is this process alone. A GPU without an index is the one numbered LOCAL_RANK.
  /// Throws Error if only some of the variables are set, the store cannot be reached, or there is no such GPU.
  static ProcessGroup from_environment(at::Device device, Timeouts timeouts);
  static ProcessGroup from_environment(at::Device device) { return from_environment(device, Timeouts()); }

  /// Leaves the group. Unless an exception is on its way, rank 0 gives the others a minute to leave too.
  ~ProcessGroup();
  ProcessGroup(ProcessGroup&&) noexcept;
  ProcessGroup& operator=(ProcessGroup&&) noexcept;

  int rank() const;           ///< 0 <= rank < world_size
  int world_size() const;     ///< number of processes
  int local_rank() const;     ///< this process among those of its machine
  bool is_main() const;       ///< rank 0: the one that writes files and logs
  at::Device device() const;  ///< this process's device, a GPU always with its index

  /// Replaces `tensor` [any shape] by its sum over the processes. Any number type; not recorded by autograd.
  void all_reduce_sum(const at::Tensor& tensor) const;

  /// Replaces `tensor` [any shape, floating point] by its mean over the processes.
  void all_reduce_mean(const at::Tensor& tensor) const;

  /// Returns [world_size, tensor's shape...]: the tensors of all processes in the order of their ranks.
  at::Tensor all_gather(const at::Tensor& tensor) const;

  /// Replaces `tensor` [any shape] by that of rank 0.
  void broadcast(const at::Tensor& tensor) const;

  /// Returns when every process has called it.
  void barrier() const;

  /// Returns when rank 0 has called it, however long that takes: for work that rank 0 does while the others have none,
  /// which no collective's time-out should end. All have to call it. Throws Interrupted where an InterruptGuard lives
  /// and the user asks to stop; Error when the store is gone, as it is when the process that serves it, rank 0 or
  /// torchrun, has ended.
  void wait_for_main() const;

 private:
  struct State;
  explicit ProcessGroup(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace retrosparse::dist
