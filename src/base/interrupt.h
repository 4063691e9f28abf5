#pragma once
#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigaction is POSIX, <csignal> need not have it

namespace retrosparse {

/// Thrown where the process was asked to stop and work is given up; a command ends with exit code 130.
struct Interrupted {};

/// While one of these lives, the first SIGINT (Ctrl-C) or SIGTERM does not end the process but sets a flag that long
/// work polls between two steps, so that it can save its state; the second one ends the process at once. Guards may be
/// nested: the outermost one counts, and its destructor restores what was before. For one thread.
///
///   const InterruptGuard guard;
///   for (...; !InterruptGuard::requested();) { step(); }
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// Whether the process was asked to stop. False where no guard lives.
  static bool requested();

  /// Throws Interrupted if so: for work that has no state to save.
  static void check();

 private:
  struct sigaction old_interrupt_ {};
  struct sigaction old_terminate_ {};
};

}  // namespace retrosparse
