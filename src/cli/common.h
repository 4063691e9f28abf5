#pragma once
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <functional>
#include <stdexcept>
#include <string>

namespace CLI {
class App;
}

namespace retrosparse::cli {

/// The command line was not understood (exit code 2), as opposed to an Error about what it names (exit code 1).
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A subcommand whose --help ends with `example` and which calls `run` once the whole command line was understood. It
/// gets the options that every subcommand has: --quiet, --verbose and --threads.
CLI::App& add_command(CLI::App& app, const std::string& name, const std::string& description,
                      const std::string& example, std::function<void()> run);

/// --model DIR: the folder of a checkpoint. Required.
void add_model_option(CLI::App& command, std::string& model);

/// --json: print one JSON object instead of text.
void add_json_option(CLI::App& command, bool& json);

/// Where and in which precision a model runs.
struct DeviceOptions {
  std::string device = "auto";  ///< cpu, cuda, cuda:N, or auto: a GPU where the build and the machine have one
  std::string dtype = "auto";   ///< float32, bfloat16, float16, or auto: float32 on the CPU, bfloat16 on a GPU

  /// Error: a GPU is asked for and the build has no CUDA, or the machine has no such GPU; says which.
  at::Device resolve_device() const;
  at::ScalarType resolve_dtype(at::Device on) const;
};

/// --dtype, with what `auto` means here.
void add_dtype_option(CLI::App& command, std::string& dtype, const std::string& meaning_of_auto);

/// --device and --dtype.
void add_device_options(CLI::App& command, DeviceOptions& options);

}  // namespace retrosparse::cli
