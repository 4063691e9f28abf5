#include <fmt/format.h>

#include <CLI/App.hpp>
#include <memory>

#include "base/error.h"
#include "bench/bench.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/options.h"
#include "cli/output.h"

namespace retrosparse::cli {
namespace {

struct BenchArguments {
  std::vector<std::string> shapes = {"A", "B"};
  std::vector<int64_t> lengths;
  std::vector<int64_t> batches;
  double far_tiles = 0.15;
  int runs = 15;
  bool json = false;
};

using Measure = void (*)(const bench::Settings&, const bench::OnLine&);

#ifdef RETROSPARSE_WITH_CUDA
std::string cell(const bench::Line& value) {
  if (value.is_string()) {
    return value.get<std::string>();
  }
  return value.is_number_float() ? fmt::format("{:.4g}", value.get<double>()) : value.dump();
}

/// One column a result, one row a name: there are more names than fit beside each other.
std::string table(const bench::Line& lines) {
  if (lines.empty()) {
    return "";
  }
  Table rows({"work", lines[0].at("work").get<std::string>()});
  for (const auto& [name, value] : lines[0].items()) {
    if (name == "work") {
      continue;
    }
    std::vector<std::string> row = {name};
    for (const bench::Line& line : lines) {
      row.push_back(cell(line.at(name)));
    }
    rows.add(std::move(row));
  }
  return rows.text();
}

void run(const BenchArguments& arguments, Measure measure) {
  DeviceOptions device;
  device.device = "cuda";
  device.resolve_device();
  bench::Settings settings;
  for (const std::string& name : arguments.shapes) {
    settings.shapes.push_back(bench::layer_shape(name));
  }
  settings.lengths = arguments.lengths;
  settings.batches = arguments.batches;
  settings.far_tiles = arguments.far_tiles;
  settings.runs = arguments.runs;
  bench::Line result = {{"machine", bench::describe_machine()}, {"lines", bench::Line::array()}};
  measure(settings, [&](const bench::Line& line) {
    result["lines"].push_back(line);
    if (!arguments.json) {
      print(table(bench::Line::array({line})) + "\n");
    }
  });
  if (arguments.json) {
    print_json(result);
  } else {
    print(fmt::format("machine: {}\n", result["machine"].dump()));
  }
}
#else
void run(const BenchArguments&, Measure) {
  throw Error("bench needs a CUDA build and a GPU").hint("build with nvcc 13 on the PATH");
}
#endif

void add_work(CLI::App& bench, const std::string& name, const std::string& description,
              const std::vector<int64_t>& lengths, const std::vector<int64_t>& batches, Measure measure) {
  auto arguments = std::make_shared<BenchArguments>();
  arguments->lengths = lengths;
  arguments->batches = batches;
  CLI::App& command =
      add_command(bench, name, description, fmt::format("retrosparse bench {} --shape A --length 32768", name),
                  [arguments, measure] { run(*arguments, measure); });
  command.add_option("--shape", arguments->shapes, "layer shapes: A (32 query / 4 KV heads), B (32 / 8)")
      ->delimiter(',')
      ->capture_default_str();
  command.add_option("--length", arguments->lengths, "lengths in tokens")
      ->delimiter(',')
      ->check(between<int64_t>(1, 4 << 20))
      ->capture_default_str();
  if (!batches.empty()) {
    command.add_option("--batch", arguments->batches, "batch sizes")
        ->delimiter(',')
        ->check(between<int64_t>(1, 256))
        ->capture_default_str();
  } else {
    command.add_option("--far-tiles", arguments->far_tiles, "the share of the far tiles to compute at most")
        ->check(between<double>(0, 1))
        ->capture_default_str();
  }
  command.add_option("--runs", arguments->runs, "runs to take the median of")
      ->check(between<int>(1, 1000))
      ->capture_default_str();
  add_json_option(command, arguments->json);
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App& bench = *app.add_subcommand("bench", "Time the attention kernels beside FlashAttention-2 and cuDNN.");
  bench.footer("Example:\n  retrosparse bench prefill --shape A --length 32768");
  bench.require_subcommand(1);
  Measure prefill = nullptr;
  Measure decode = nullptr;
  Measure select = nullptr;
#ifdef RETROSPARSE_WITH_CUDA
  prefill = bench::bench_prefill;
  decode = bench::bench_decode;
  select = bench::bench_select;
#endif
  add_work(bench, "prefill", "A whole prompt through one layer's attention.", {32768, 131072}, {}, prefill);
  add_work(bench, "decode", "One token through one layer's attention, caches cold.", {32768, 131072}, {1, 16}, decode);
  add_work(bench, "select", "Decode's choice of keys alone.", {131072, 1048576}, {1}, select);
}

}  // namespace retrosparse::cli
