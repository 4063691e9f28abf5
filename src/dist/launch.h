#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace retrosparse::dist {

/// What torchrun (python -m torch.distributed.run), or anything that sets the same variables, tells each process it
/// starts. https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
struct Launch {
  int rank = 0;                ///< RANK: this process among all, 0 <= rank < world_size
  int world_size = 1;          ///< WORLD_SIZE: number of processes
  int local_rank = 0;          ///< LOCAL_RANK: this process among those of its machine
  std::string master_address;  ///< MASTER_ADDR: where the store that the processes meet at is served
  uint16_t master_port = 0;    ///< MASTER_PORT
  /// TORCHELASTIC_USE_AGENT_STORE=True: torchrun itself serves the store; otherwise rank 0 has to.
  bool agent_serves_store = false;
  /// TORCHELASTIC_RESTART_COUNT: torchrun starts all processes again after a failure, at the same store.
  int restart_count = 0;
};

/// The value of an environment variable, nothing if it is not set.
using EnvironmentLookup = std::function<std::optional<std::string>(const char* name)>;
std::optional<std::string> process_environment(const char* name);

/// Nothing if none of RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT is set: a process that was started by
/// itself. Throws Error, naming the variables, if only some of them are or one has an impossible value.
std::optional<Launch> read_launch(const EnvironmentLookup& environment = process_environment);

}  // namespace retrosparse::dist
