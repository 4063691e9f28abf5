#include "dist/rendezvous.h"

#include <c10/util/Logging.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/interrupt.h"

namespace retrosparse::dist {
namespace {

constexpr std::chrono::milliseconds kPollInterval(200);

/// One key per process: "joined/0", "joined/1", ...
std::vector<std::string> keys(const char* state, const Launch& launch) {
  std::vector<std::string> result;
  for (int rank = 0; rank < launch.world_size; ++rank) {
    result.push_back(fmt::format("{}/{}", state, rank));
  }
  return result;
}

/// Silences c10d while it lives: what goes wrong here becomes one Error, and c10d would print stack traces of its own
/// above it. TORCH_CPP_LOG_LEVEL brings them back.
class QuietC10d {
 public:
  QuietC10d() : level_(FLAGS_caffe2_log_level) {
    if (!process_environment("TORCH_CPP_LOG_LEVEL")) {
      FLAGS_caffe2_log_level = c10::GLOG_FATAL;
    }
  }
  QuietC10d(const QuietC10d&) = delete;
  QuietC10d& operator=(const QuietC10d&) = delete;
  ~QuietC10d() { FLAGS_caffe2_log_level = level_; }

 private:
  int level_;
};

/// The processes that have not joined yet, for an error message.
std::string describe_missing(c10d::Store& store, const std::vector<std::string>& joined) {
  std::vector<size_t> missing;
  try {
    for (size_t rank = 0; rank < joined.size(); ++rank) {
      if (!store.check({joined[rank]})) {
        missing.push_back(rank);
      }
    }
  } catch (const c10::Error&) {
    return "that the process which serves the store has ended";
  }
  return fmt::format("no rank {}", fmt::join(missing, ", "));
}

bool serves_store(const Launch& launch) {
  return launch.rank == 0 && !launch.agent_serves_store;
}

c10::intrusive_ptr<c10d::Store> connect(const Launch& launch, std::chrono::milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = launch.master_port;
  options.isServer = serves_store(launch);
  options.waitWorkers = false;  // TCPStore's own waiting does not say who is missing
  options.timeout = timeout;
  try {
    return c10::make_intrusive<c10d::PrefixStore>(fmt::format("retrosparse/{}", launch.restart_count),
                                                  c10::make_intrusive<c10d::TCPStore>(launch.master_address, options));
  } catch (const c10::Error& error) {
    throw Error(fmt::format("rank {} of {} could not {} {}:{}", launch.rank, launch.world_size,
                            options.isServer ? "serve the store at" : "reach the store at", launch.master_address,
                            launch.master_port))
        .found(error.what_without_backtrace())
        .hint("MASTER_ADDR and MASTER_PORT name the machine of rank 0 and a free port there");
  }
}

}  // namespace

Rendezvous::Rendezvous(const Launch& launch, std::chrono::milliseconds timeout) : launch_(launch) {
  const QuietC10d quiet;
  store_ = connect(launch, timeout);
  const std::vector<std::string> joined = keys("joined", launch);
  try {
    store_->set(joined[launch.rank], std::vector<uint8_t>{1});
    store_->wait(joined, timeout);
  } catch (const c10::Error&) {
    throw Error(fmt::format("rank {} waited at {}:{} for the other processes", launch.rank, launch.master_address,
                            launch.master_port))
        .expected(
            fmt::format("{} processes within {} s", launch.world_size, std::chrono::duration<double>(timeout).count()))
        .found(describe_missing(*store_, joined));
  }
}

void Rendezvous::wait_for_main() {
  const QuietC10d quiet;
  const std::string key = fmt::format("main_has_arrived/{}", times_waited_for_main_++);
  if (launch_.rank == 0) {
    store_->set(key, std::vector<uint8_t>{1});
  }
  // In this order: who asked all processes to stop is told so, and not that the first one has left.
  for (InterruptGuard::check(); !store_->check({key}); InterruptGuard::check()) {
    std::this_thread::sleep_for(kPollInterval);
  }
}

void Rendezvous::leave(std::chrono::milliseconds timeout) noexcept {
  const QuietC10d quiet;
  const std::vector<std::string> left = keys("left", launch_);
  try {
    store_->set(left[launch_.rank], std::vector<uint8_t>{1});
    if (serves_store(launch_)) {
      store_->wait(left, timeout);
    }
  } catch (const std::exception&) {
    // Another process ended without a word: nothing is left to be kept alive for it.
  }
}

}  // namespace retrosparse::dist
