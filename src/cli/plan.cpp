#include <fmt/format.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/suggest.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/plan_conversion.h"
#include "cli/plan_view.h"
#include "plan/report.h"

namespace retrosparse::cli {
namespace {

struct PlanArguments {
  std::string model;
  std::string lengths = "4k,32k,128k,1m";
  SparseOptions sparse;
  std::string dtype = "auto";
  std::string gpu;
  ConversionArguments conversion;
  bool json = false;
};

// The dtype that is asked for; else the checkpoint's own, or bfloat16 where config.json does not say.
std::string resolve_dtype(const std::string& asked, const ModelConfig& config) {
  if (asked != "auto") {
    return asked;
  }
  return config.dtype == "float32" || config.dtype == "float16" ? config.dtype : "bfloat16";
}

std::vector<Gpu> choose_gpus(const std::string& name) {
  if (name.empty()) {
    return known_gpus();
  }
  std::vector<std::string> names;
  for (const Gpu& gpu : known_gpus()) {
    if (gpu.name == name) {
      return {gpu};
    }
    names.push_back(gpu.name);
  }
  const std::string suggestion = did_you_mean(name, names);
  throw UsageError(
      fmt::format("--gpu: unknown GPU '{}'; {}", name,
                  suggestion.empty() ? fmt::format("known are {}", CLI::detail::join(names, ", ")) : suggestion));
}

void run_plan(const PlanArguments& arguments) {
  if (arguments.model.empty()) {  // CLI11 would ask for --model only
    throw UsageError("CONFIG_OR_DIR is required (see retrosparse plan --help)");
  }
  const std::vector<int64_t> lengths = parse_lengths(arguments.lengths);
  const std::vector<Gpu> gpus = choose_gpus(arguments.gpu);
  if (!arguments.conversion.recipe.empty()) {
    run_conversion_plan(arguments.model, arguments.conversion, arguments.dtype, arguments.gpu, arguments.json);
    return;
  }
  const ModelConfig config = ModelConfig::read(arguments.model);
  const std::string dtype = resolve_dtype(arguments.dtype, config);
  const double element_size = dtype == "float32" ? 4 : 2;
  const CostReport report = report_cost(config, arguments.sparse, lengths, element_size, gpus);
  const PlanView view{arguments.model, config, arguments.sparse, dtype, report};
  if (arguments.json) {
    print_json(plan_json(view));
  } else {
    print(plan_text(view));
  }
}

void add_sparse_options(CLI::App& command, SparseOptions& options) {
  constexpr int64_t kMost = int64_t{1} << 30;
  command.add_option("--window", options.window, "latest tokens that a local head sees")
      ->capture_default_str()
      ->type_name("N")
      ->check(between<int64_t>(1, kMost));
  command.add_option("--sink-tokens", options.sink_tokens, "first tokens that a local head sees")
      ->capture_default_str()
      ->type_name("N")
      ->check(between<int64_t>(0, kMost));
  command.add_option("--retrieval-share", options.retrieval_share, "share of query heads that keep the whole context")
      ->capture_default_str()
      ->type_name("P")
      ->check(between(0.0, 1.0));
  command.add_option("--index-dim", options.index_dim, "numbers for each token in a retrieval head's index")
      ->capture_default_str()
      ->type_name("N")
      ->check(between<int64_t>(1, 1024));
  command.add_option("--max-tokens", options.max_tokens, "most far tokens that a retrieval head picks at decode")
      ->capture_default_str()
      ->type_name("N")
      ->check(between<int64_t>(0, kMost));
}

void add_conversion_options(CLI::App& command, ConversionArguments& arguments) {
  const auto recipe = command.add_option("--recipe", arguments.recipe,
                                         "predict a conversion by this recipe instead: tokens, time and memory of each "
                                         "stage on --gpu, or on this machine's CPU");
  recipe->type_name("FILE.yaml");
  command.add_option("--set", arguments.settings, "change the recipe, as train.steps=100; may be repeated")
      ->type_name("SECTION.KEY=VALUE")
      ->take_all()
      ->needs(recipe);
  command
      .add_option("--head-plan", arguments.head_plan,
                  "which heads retrieve: profile/head_plan.json of a conversion; else few layers are assumed")
      ->type_name("FILE.json")
      ->needs(recipe);
  command.add_option("--prefill-chunk", arguments.prefill_chunk, "tokens in one forward pass, as for convert")
      ->capture_default_str()
      ->type_name("N")
      ->check(between<int64_t>(1, int64_t{1} << 30))
      ->needs(recipe);
}

}  // namespace

void add_plan(CLI::App& app) {
  const auto arguments = std::make_shared<PlanArguments>();
  CLI::App& command = add_command(app, "plan",
                                  "Estimate what a model costs, dense and sparse, or what converting it does. Reads "
                                  "config.json only.",
                                  "retrosparse plan --model examples/nano --recipe recipes/nano-8k.yaml --gpu H200",
                                  [arguments] { run_plan(*arguments); });
  command.add_option("CONFIG_OR_DIR,--model", arguments->model, "a config.json, or a folder that holds one")
      ->type_name("")
      ->check(not_empty());
  command.add_option("--lengths", arguments->lengths, "tokens of one sequence, as 4096,32k,1m")
      ->type_name("LIST")
      ->capture_default_str();
  add_sparse_options(command, arguments->sparse);
  add_dtype_option(command, arguments->dtype, "what config.json says; with --recipe what convert takes");
  command.add_option("--gpu", arguments->gpu, "only this one, and times for every length")
      ->type_name("NAME")
      ->check(not_empty());
  add_conversion_options(command, arguments->conversion);
  add_json_option(command, arguments->json);
}

}  // namespace retrosparse::cli
