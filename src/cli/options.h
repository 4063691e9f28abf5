#pragma once
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <string>

namespace retrosparse::cli {

/// Refuses what is not a number in [lowest, highest], nan among it (CLI::Range lets it pass). Does not show in the
/// help, where the option's type name stands.
template <typename T>
CLI::Validator between(T lowest, T highest) {
  return CLI::Validator(
      [=](std::string& input) {
        T value{};
        const bool fits = CLI::detail::lexical_cast(input, value) && value >= lowest && value <= highest;
        return fits ? std::string() : fmt::format("Value {} not in range {} to {}", input, lowest, highest);
      },
      "");
}

/// Refuses a name without a character, about which no message could say what it means.
inline CLI::Validator not_empty() {
  return CLI::Validator(
      [](std::string& name) { return name.empty() ? std::string("an empty name, ''") : std::string(); }, "");
}

}  // namespace retrosparse::cli
