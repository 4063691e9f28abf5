#pragma once
#include <fmt/format.h>

#include <atomic>
#include <functional>
#include <string_view>
#include <utility>

namespace retrosparse {

/// How loud the program is: a message is shown when its level is not above the one that is set.
enum class LogLevel { kError, kWarning, kInfo, kDebug };

/// The default is kInfo; `--quiet` sets kError, `--verbose` kDebug.
void set_log_level(LogLevel level);
LogLevel log_level();

/// Sends messages somewhere else than to stderr, whole lines without their end; an empty function restores stderr.
/// Whoever listens anew has not heard any warning yet.
void set_log_sink(std::function<void(std::string_view line)> sink);

/// Writes one line to stderr: "error: ...", "warning: ...", "debug: ...", and information without a prefix. Lines of
/// several threads do not mix. A warning comes once: the same text a second time says nothing new.
void log_message(LogLevel level, std::string_view text);

template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_message(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}

/// Costs no formatting when it is not shown.
template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() >= LogLevel::kDebug) {
    log_message(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
  }
}

/// True while stderr is a terminal whose last line is a progress line; the next message erases that line first.
extern std::atomic<bool> progress_line_shown;

}  // namespace retrosparse
