#pragma once
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <cstdint>

#include "dist/launch.h"

namespace c10d {
class Store;
}

namespace retrosparse::dist {

/// Where the processes of a launch meet: a key-value store over TCP that they all reach.
class Rendezvous {
 public:
  /// Returns when every process has joined. Throws Error, naming the address or the ranks that are missing, if that
  /// takes longer than `timeout`.
  Rendezvous(const Launch& launch, std::chrono::milliseconds timeout);

  const c10::intrusive_ptr<c10d::Store>& store() const { return store_; }

  /// Returns when rank 0 has called it as often as this process, however long that takes. Throws what c10d throws when
  /// the store is gone.
  void wait_for_main();

  /// Tells the others that this process is done. The one that serves the store waits up to `timeout` for the rest to
  /// say so too: without the store their backends complain. Never throws.
  void leave(std::chrono::milliseconds timeout) noexcept;

 private:
  Launch launch_;
  c10::intrusive_ptr<c10d::Store> store_;
  int64_t times_waited_for_main_ = 0;
};

}  // namespace retrosparse::dist
