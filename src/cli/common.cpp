#include "cli/common.h"

#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <charconv>
#include <memory>

#include "base/error.h"
#include "base/log.h"
#include "cli/options.h"
#include "ops/kernel_use.h"

namespace retrosparse::cli {
namespace {

constexpr char kCommonGroup[] = "Options that several subcommands share";

struct CommonOptions {
  bool quiet = false, verbose = false;
  int threads = 0;  // 0: libtorch's default
};

// With --verbose the log says what every option came out as, defaults included.
void log_options(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options()) {
    const std::string value =
        option->count() > 0 ? CLI::detail::join(option->results(), " ") : option->get_default_str();
    if (!value.empty()) {
      log_debug("option {} = {}", option->get_name(), value);
    }
  }
}

void apply(const CommonOptions& options, const CLI::App& command) {
  set_log_level(options.quiet ? LogLevel::kError : options.verbose ? LogLevel::kDebug : LogLevel::kInfo);
  if (options.threads > 0) {
    at::set_num_threads(options.threads);
  }
  log_options(command);
}

int num_gpus() {
#ifdef RETROSPARSE_WITH_CUDA
  return at::detail::getCUDAHooks().deviceCount();
#else
  return 0;
#endif
}

void check_gpu(const std::string& asked, int index) {
#ifndef RETROSPARSE_WITH_CUDA
  throw Error(fmt::format("--device {}: this program was built without CUDA", asked))
      .hint("build it where nvcc 13 is installed, or run with --device cpu");
#endif
  if (num_gpus() == 0) {
    throw Error(fmt::format("--device {}: this machine has no GPU that CUDA can use", asked)).hint("--device cpu");
  }
  if (index >= num_gpus()) {
    throw Error(fmt::format("--device {}: no such GPU", asked)).expected(fmt::format("0 to {}", num_gpus() - 1));
  }
}

// "cuda:3" -> 3, "cuda" -> 0, anything else -> -1.
int gpu_index(std::string_view name) {
  if (name == "cuda") {
    return 0;
  }
  if (!name.starts_with("cuda:")) {
    return -1;
  }
  const std::string_view digits = name.substr(5);
  unsigned char index = 0;  // libtorch counts devices in eight bits
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  const bool whole = problem == std::errc() && end == digits.data() + digits.size();
  return whole && index <= 127 ? index : -1;
}

}  // namespace

CLI::App& add_command(CLI::App& app, const std::string& name, const std::string& description,
                      const std::string& example, std::function<void()> run) {
  CLI::App* command = app.add_subcommand(name, description);
  command->footer("Example:\n  " + example);
  const auto common = std::make_shared<CommonOptions>();
  auto* quiet = command->add_flag("-q,--quiet", common->quiet, "say nothing but errors on stderr");
  quiet->group(kCommonGroup);
  command->add_flag("-v,--verbose", common->verbose, "say more on stderr")->excludes(quiet)->group(kCommonGroup);
  command->add_option("--threads", common->threads, "CPU threads; default: one for each core")
      ->type_name("N")
      ->check(between(1, 1024))
      ->group(kCommonGroup);
  command->callback([common, command, run = std::move(run)] {
    apply(*common, *command);
    run();
  });
  return *command;
}

void add_model_option(CLI::App& command, std::string& model) {
  command.add_option("--model", model, "folder with config.json, safetensors and tokenizer.json")
      ->type_name("DIR")
      ->check(not_empty())
      ->required();
}

void add_json_option(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "print one JSON object instead of text")->group(kCommonGroup);
}

void add_dtype_option(CLI::App& command, std::string& dtype, const std::string& meaning_of_auto) {
  command.add_option("--dtype", dtype, "float32, bfloat16, float16, or auto: " + meaning_of_auto)
      ->type_name("DTYPE")
      ->capture_default_str()
      ->group(kCommonGroup)
      ->check(CLI::IsMember({"auto", "float32", "bfloat16", "float16"}).description(""));
}

void add_device_options(CLI::App& command, DeviceOptions& options) {
  command
      .add_option("--device", options.device,
                  "cpu, cuda, cuda:N, or auto: a GPU where the build and the machine have one")
      ->type_name("DEVICE")
      ->capture_default_str()
      ->group(kCommonGroup)
      ->check([](const std::string& name) {
        const bool known = name == "auto" || name == "cpu" || gpu_index(name) >= 0;
        return known ? std::string() : fmt::format("expected cpu, cuda, cuda:N or auto, found '{}'", name);
      });
  add_dtype_option(command, options.dtype, "float32 on the CPU, bfloat16 on a GPU");
  command
      .add_option_function<std::string>(
          "--kernels",
          [](const std::string& which) {
            ops::use_attention_kernels(which == "off"       ? ops::KernelUse::kOff
                                       : which == "prefill" ? ops::KernelUse::kPrefill
                                                            : ops::KernelUse::kAll);
          },
          "attention kernels of our own on a Hopper GPU: off, prefill, or all, which is decode too; default: all")
      ->type_name("WHICH")
      ->group(kCommonGroup)
      ->check(CLI::IsMember({"off", "prefill", "all"}).description(""));
}

at::Device DeviceOptions::resolve_device() const {
  if (device == "cpu" || (device == "auto" && num_gpus() == 0)) {
    return at::kCPU;
  }
  const int index = device == "auto" ? 0 : gpu_index(device);
  check_gpu(device, index);
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
}

at::ScalarType DeviceOptions::resolve_dtype(at::Device on) const {
  if (dtype == "auto") {
    return on.is_cuda() ? at::kBFloat16 : at::kFloat;
  }
  return dtype == "float32" ? at::kFloat : dtype == "bfloat16" ? at::kBFloat16 : at::kHalf;
}

}  // namespace retrosparse::cli
