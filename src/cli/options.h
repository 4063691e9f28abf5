#pragma once
#include <CLI/CLI.hpp>

namespace retrosparse::cli {

/// Refuses values outside [lowest, highest]. Does not show in the help, where the option's type name stands.
template <typename T>
CLI::Validator between(T lowest, T highest) {
  return CLI::Range(lowest, highest).description("");
}

}  // namespace retrosparse::cli
