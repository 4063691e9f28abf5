#include "base/format.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <span>
#include <string_view>

namespace retrosparse {

namespace {

/// `value` in the largest of the units (each `base` times the one before) that leaves at least 1 before the point, with
/// one digit behind the point under 100 and without a trailing ".0".
std::string scaled(double value, double base, std::span<const std::string_view> units) {
  size_t unit = 0;
  // 999.95 would be shown as "1000.0": what rounds up to the next unit belongs to it.
  while (std::abs(value) >= base - 0.5 && unit + 1 < units.size()) {
    value /= base;
    ++unit;
  }
  std::string number =
      unit == 0 || std::abs(value) >= 99.95 ? fmt::format("{:.0f}", value) : fmt::format("{:.1f}", value);
  if (number.ends_with(".0")) {
    number.resize(number.size() - 2);
  }
  return fmt::format("{}{}", number, units[unit]);
}

}  // namespace

std::string format_bytes(double bytes) {
  constexpr std::array<std::string_view, 6> kUnits = {" B", " KiB", " MiB", " GiB", " TiB", " PiB"};
  return scaled(bytes, 1024, kUnits);
}

std::string format_count(double count) {
  constexpr std::array<std::string_view, 5> kUnits = {"", "K", "M", "B", "T"};
  return scaled(count, 1000, kUnits);
}

std::string format_duration(double seconds) {
  if (seconds < 9.95) {
    return fmt::format("{:.1f} s", seconds);
  }
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  const int64_t minutes = whole / 60, hours = minutes / 60, days = hours / 24;
  if (minutes == 0) {
    return fmt::format("{} s", whole);
  }
  if (hours == 0) {
    return fmt::format("{} m {} s", minutes, whole % 60);
  }
  if (days == 0) {
    return fmt::format("{} h {} m", hours, minutes % 60);
  }
  return fmt::format("{} d {} h", days, hours % 24);
}

}  // namespace retrosparse
