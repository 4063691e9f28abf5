// The program: its subcommands, and how whatever goes wrong is told. Exit codes: 0 done, 1 an error in what was named
// (a file, a model, a device), 2 a command line that was not understood, 130 interrupted.
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <torch/version.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <new>
#include <string>

#include "base/error.h"
#include "base/interrupt.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/usage.h"

namespace {

constexpr int kError = 1, kUsage = 2, kInterrupted = 130;
constexpr char kMemoryHint[] = "a smaller --prefill-chunk, --dtype bfloat16 or another --device needs less";

// One line, whatever a file name or a message of libtorch contains.
int fail(int code, std::string message) {
  std::ranges::replace(message, '\n', ' ');
  fmt::print(stderr, "retrosparse: error: {}\n", message);
  return code;
}

std::string version() {
#ifdef RETROSPARSE_WITH_CUDA
  constexpr char kBuild[] = "CUDA build";
#else
  constexpr char kBuild[] = "CPU build";
#endif
  return fmt::format("retrosparse {} (torch {}, {})", RETROSPARSE_VERSION, TORCH_VERSION, kBuild);
}

std::string first_line(std::string text) {
  return text.substr(0, text.find('\n'));
}

int fail_in_libtorch(const c10::Error& error) {
  const std::string message = first_line(error.what_without_backtrace());
  const bool memory = dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
                      message.find("can't allocate memory") != std::string::npos;
  return fail(kError, memory ? fmt::format("out of memory: {} ({})", message, kMemoryHint) : message);
}

int run(int argc, char** argv) {
  using namespace retrosparse;
  CLI::App app("Sparse attention for trained language models: convert a checkpoint, measure what that cost, run it.",
               "retrosparse");
  app.set_version_flag("--version", version);
  app.require_subcommand(1);
  app.footer("retrosparse SUBCOMMAND --help shows the options and an example of each.");
  cli::add_inspect(app);
  cli::add_plan(app);
  cli::add_tokenize(app);
  cli::add_tasks(app);
  cli::add_generate(app);
  cli::add_convert(app);
  cli::add_stages(app);
  cli::add_recipe(app);
  cli::add_bench(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& help_or_version) {
    return app.exit(help_or_version);
  } catch (const CLI::ParseError& error) {
    return fail(kUsage, cli::usage_message(app, error));
  } catch (const cli::UsageError& error) {
    return fail(kUsage, error.what());
  } catch (const Interrupted&) {
    return fail(kInterrupted, "interrupted");
  } catch (const Error& error) {
    return fail(kError, error.what());
  } catch (const c10::Error& error) {
    return fail_in_libtorch(error);
  } catch (const std::bad_alloc&) {
    return fail(kError, fmt::format("out of memory ({})", kMemoryHint));
  } catch (const std::filesystem::filesystem_error& error) {  // a folder that may not be entered or written
    return fail(kError, fmt::format("{}: {}", error.path1().string(), error.code().message()));
  } catch (const std::exception& error) {
    return fail(kError, fmt::format("internal error: {}", error.what()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  // A file that may not grow any further (ulimit -f) is an error of the write and not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
  return run(argc, argv);
}
