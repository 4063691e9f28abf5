#include "base/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <string_view>

namespace retrosparse {

namespace {

std::atomic<bool> stop_requested = false;
int living_guards = 0;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

/// Only async-signal-safe calls.
void handle(int signal_number) {
  if (stop_requested.exchange(true)) {
    ::signal(signal_number, SIG_DFL);  // takes effect when this handler returns and the signal is unblocked
    ::raise(signal_number);
    return;
  }
  constexpr std::string_view kMessage = "\nstopping after this step; once more to stop at once\n";
  [[maybe_unused]] const ssize_t count = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
}

}  // namespace

InterruptGuard::InterruptGuard() {
  if (living_guards++ > 0) {
    return;
  }
  stop_requested = false;
  struct sigaction action {};
  action.sa_handler = handle;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;  // reads and writes under way go on
  ::sigaction(SIGINT, &action, &old_interrupt_);
  ::sigaction(SIGTERM, &action, &old_terminate_);
}

InterruptGuard::~InterruptGuard() {
  if (--living_guards > 0) {
    return;
  }
  ::sigaction(SIGINT, &old_interrupt_, nullptr);
  ::sigaction(SIGTERM, &old_terminate_, nullptr);
  stop_requested = false;
}

bool InterruptGuard::requested() {
  return stop_requested;
}

void InterruptGuard::check() {
  if (requested()) {
    throw Interrupted();
  }
}

}  // namespace retrosparse
