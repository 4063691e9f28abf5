#include "base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <utility>

#include "base/format.h"
#include "base/log.h"

namespace retrosparse {

namespace {

constexpr double kTerminalInterval = 0.1;  // seconds between redraws
constexpr double kLogInterval = 10;        // seconds between lines of a log
constexpr double kWorthALine = 1;          // seconds: quicker work, never shown, leaves no line behind

std::string rate_text(double rate, const std::string& unit) {
  const std::string number = rate < 10 ? fmt::format("{:.2g}", rate) : format_count(rate);
  return fmt::format("{} {}/s", number, unit);
}

}  // namespace

ProgressOutput ProgressOutput::standard_error() {
  winsize window{};
  const bool is_terminal = ::isatty(STDERR_FILENO) == 1 && ::ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0;
  const auto seconds = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  return {log_level() >= LogLevel::kInfo ? &std::cerr : nullptr, is_terminal, seconds, window.ws_col};
}

Progress::Progress(std::string label, int64_t total, std::string unit, ProgressOutput output)
    : label_(std::move(label)), unit_(std::move(unit)), total_(total), output_(std::move(output)) {
  start_ = shown_at_ = output_.seconds();
}

Progress::~Progress() {
  if (line_open_) {
    *output_.stream << '\n' << std::flush;
    progress_line_shown = false;
  }
}

void Progress::advance(int64_t n) {
  done_ += n;
  const double interval = output_.is_terminal ? kTerminalInterval : kLogInterval;
  if (output_.stream != nullptr && output_.seconds() - shown_at_ >= interval) {
    show();
  }
}

void Progress::show() {
  shown_at_ = output_.seconds();
  const double elapsed = shown_at_ - start_;
  const double rate = elapsed > 0 ? static_cast<double>(done_) / elapsed : 0;
  std::string text = fmt::format("{}  {}", label_, done_);
  if (total_ > 0) {
    text += fmt::format("/{} {}  {}%", total_, unit_, 100 * done_ / total_);
  } else {
    text += " " + unit_;
  }
  text += "  " + rate_text(rate, unit_);
  if (total_ > done_ && rate > 0) {
    text += fmt::format("  {} left", format_duration(static_cast<double>(total_ - done_) / rate));
  }
  write_line(text, false);
}

void Progress::finish() {
  if (std::exchange(finished_, true) || output_.stream == nullptr) {
    return;
  }
  const double elapsed = std::max(output_.seconds() - start_, 1e-9);
  if (shown_at_ == start_ && elapsed < kWorthALine) {
    return;
  }
  write_line(fmt::format("{}  {} {} in {}  {}", label_, done_, unit_, format_duration(elapsed),
                         rate_text(static_cast<double>(done_) / elapsed, unit_)),
             true);
}

void Progress::write_line(const std::string& text, bool last) {
  std::string line = note_.empty() ? text : text + "  " + note_;
  if (output_.is_terminal) {
    if (output_.columns > 0 && line.size() >= output_.columns) {
      line.resize(output_.columns - 1);
    }
    *output_.stream << '\r' << line << "\x1b[K" << (last ? "\n" : "") << std::flush;
    line_open_ = !last;
    progress_line_shown = line_open_;
  } else {
    *output_.stream << line << '\n' << std::flush;
  }
}

}  // namespace retrosparse
