#include "base/log.h"

#include <array>
#include <cstdio>
#include <mutex>
#include <string>
#include <unordered_set>

namespace retrosparse {

std::atomic<bool> progress_line_shown = false;

namespace {

std::atomic<LogLevel> current_level = LogLevel::kInfo;
std::mutex sink_mutex;

std::function<void(std::string_view)>& current_sink() {
  static std::function<void(std::string_view)> sink;
  return sink;
}

std::unordered_set<std::string>& shown_warnings() {
  static std::unordered_set<std::string> lines;
  return lines;
}

}  // namespace

void set_log_level(LogLevel level) {
  current_level = level;
}
LogLevel log_level() {
  return current_level;
}

void set_log_sink(std::function<void(std::string_view line)> sink) {
  const std::lock_guard lock(sink_mutex);
  current_sink() = std::move(sink);
  shown_warnings().clear();
}

void log_message(LogLevel level, std::string_view text) {
  constexpr std::array<std::string_view, 4> kPrefixes = {"error: ", "warning: ", "", "debug: "};
  if (level > current_level) {
    return;
  }
  std::string line = fmt::format("{}{}", kPrefixes[static_cast<size_t>(level)], text);
  const std::lock_guard lock(sink_mutex);
  if (level == LogLevel::kWarning && !shown_warnings().insert(line).second) {
    return;
  }
  if (current_sink()) {
    current_sink()(line);
    return;
  }
  if (progress_line_shown.exchange(false)) {
    line.insert(0, "\r\x1b[K");
  }
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);  // one call, so that processes that share stderr do not mix lines
}

}  // namespace retrosparse
