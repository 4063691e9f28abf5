#include <fmt/format.h>

#include <CLI/App.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/format.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/options.h"
#include "cli/output.h"
#include "convert/artifacts.h"
#include "convert/pipeline.h"
#include "report/kl_target.h"

namespace retrosparse::cli {
namespace {

struct ConvertArguments {
  std::string model, recipe, out;
  std::vector<std::string> settings, text;
  DeviceOptions device;
  int64_t prefill_chunk = 4096;
  bool json = false;
  bool rerun = false;
  std::optional<std::string> to;  // these two: of `export`
  bool overwrite = false;
};

// --text as a setting like any other, so that it shows in the manifest and is hashed.
std::vector<std::string> all_settings(const ConvertArguments& arguments) {
  std::vector<std::string> settings = arguments.settings;
  if (!arguments.text.empty()) {
    nlohmann::json files = nlohmann::json::array();
    for (const std::string& file : arguments.text) {
      files.push_back(std::filesystem::absolute(file).string());
    }
    settings.push_back("data.sources=" + nlohmann::json{{{"name", "text"}, {"files", files}}}.dump());
  }
  return settings;
}

std::string percent(const std::optional<double>& share) {
  return share ? fmt::format("{:.1f}%", 100 * *share) : "";
}

std::string number(const std::optional<double>& value, const char* format) {
  return value ? fmt::format(fmt::runtime(format), *value) : "";
}

// dense | plan | sparse | the paper's rule.
std::string summary(const Report& report) {
  const Report::Validation& validation = *report.validation;
  const auto& variants = validation.variants;
  Table table({report.model.name, "dense", "plan, dense retrieval", "sparse", "paper's rule"});
  const auto row = [&](const std::string& name, auto&& shown) {
    table.add({name, shown(*variants.dense), shown(*variants.plan), shown(*variants.sparse), shown(*variants.paper)});
  };
  using Measurement = Report::Measurement;
  row("accuracy, mean", [](const Measurement& m) { return percent(m.accuracy); });
  for (const Report::TaskResult& task : validation.tasks) {
    table.add({"  " + task.task, percent(task.accuracy.dense), percent(task.accuracy.plan),
               percent(task.accuracy.sparse), percent(task.accuracy.paper)});
  }
  row("NLL of text, nats", [](const Measurement& m) { return number(m.nll, "{:.4f}"); });
  row("KL to dense x1000", [](const Measurement& m) { return fmt::format("{:.2f}", 1000 * m.kl_dense.value_or(0)); });
  row("KL to plan x1000", [](const Measurement& m) { return fmt::format("{:.2f}", 1000 * m.kl_plan.value_or(0)); });
  row("far tokens a head", [](const Measurement& m) { return number(m.far_tokens, "{:.0f}"); });
  row("KV cache, computed", [](const Measurement& m) { return format_bytes(m.kv_bytes); });
  row("index", [](const Measurement& m) { return m.index_bytes > 0 ? format_bytes(m.index_bytes) : ""; });
  if (validation.speed) {
    row("prefill, tokens/s", [](const Measurement& m) { return number(m.prefill_speed, "{:.0f}"); });
    row("decode, tokens/s", [](const Measurement& m) { return number(m.decode_speed, "{:.0f}"); });
  }
  std::string text = table.text();
  if (const auto outcome = kl_target_outcome(report)) {
    text += fmt::format("  {}\n", text_of(*outcome));
  }
  return text;
}

void run(const ConvertArguments& arguments, const std::vector<std::string>& stages) {
  ConversionOptions options;
  options.model = arguments.model;
  options.out = arguments.out;
  options.recipe = Recipe::read(arguments.recipe, all_settings(arguments));
  const at::Device device = arguments.device.resolve_device();
  const auto group = dist::ProcessGroup::from_environment(device);
  if (!group.is_main() && log_level() == LogLevel::kInfo) {
    set_log_level(LogLevel::kWarning);  // one of several processes tells how it goes
  }
  options.device = group.device();
  options.dtype = arguments.device.resolve_dtype(device);
  options.prefill_chunk = arguments.prefill_chunk;
  options.rerun = arguments.rerun;
  Workspace workspace(std::move(options), group);
  if (arguments.to) {
    export_conversion(workspace, *arguments.to, arguments.overwrite);
    return;
  }
  run_conversion(workspace, stages);
  const std::filesystem::path report = workspace.folder("report") / "report.json";
  if (!group.is_main() || !std::filesystem::exists(report) || !stages.empty()) {
    return;
  }
  if (arguments.json) {
    print(read_text(report));
  } else {
    print(summary(read_results(report)));
    print(fmt::format("\n{}\n", (workspace.folder("report") / "report.html").string()));
  }
}

void add_stage_options(CLI::App& command, ConvertArguments& arguments) {
  add_model_option(command, arguments.model);
  command.add_option("--recipe", arguments.recipe, "settings: a file like those in recipes/")
      ->type_name("FILE.yaml")
      ->required();
  command.add_option("--out", arguments.out, "folder of this conversion; the same one continues it")
      ->type_name("DIR")
      ->required();
  command.add_option("--set", arguments.settings, "change the recipe, as train.steps=100; may be repeated")
      ->type_name("SECTION.KEY=VALUE")
      ->take_all();
  command.add_option("--text", arguments.text, "text of your own instead of the recipe's: files or folders")
      ->type_name("FILE");
  constexpr int64_t kMostTokens = int64_t{1} << 30;
  command.add_option("--prefill-chunk", arguments.prefill_chunk, "tokens in one forward pass")
      ->capture_default_str()
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, kMostTokens));
  command.add_flag("--rerun", arguments.rerun, "let finished training whose settings changed begin anew");
  add_device_options(command, arguments.device);
}

}  // namespace

void add_convert(CLI::App& app) {
  const auto arguments = std::make_shared<ConvertArguments>();
  CLI::App& command =
      add_command(app, "convert", "Turn a model into a sparse one: all stages, resumable, with a report.",
                  "retrosparse convert --model examples/nano --recipe recipes/quickstart-nano.yaml "
                  "--out out/nano",
                  [arguments] { run(*arguments, {}); });
  add_stage_options(command, *arguments);
  add_json_option(command, arguments->json);
}

void add_stages(CLI::App& app) {
  for (const Stage& stage : conversion_stages()) {
    const auto arguments = std::make_shared<ConvertArguments>();
    const std::string description = fmt::format("A stage of convert: {}.", stage.summary);
    CLI::App& command = add_command(
        app, stage.name, description,
        fmt::format("retrosparse {} --model examples/nano --recipe recipes/quickstart-nano.yaml --out out/nano",
                    stage.name),
        [arguments, &stage] { run(*arguments, {stage.name}); });
    add_stage_options(command, *arguments);
    if (stage.name == "export") {
      CLI::Option* to =
          command.add_option("--to", arguments->to, "write the model there instead of to model/ in --out")
              ->type_name("DIR")
              ->check(not_empty());
      command.add_flag("--overwrite", arguments->overwrite, "let --to replace an earlier export")->needs(to);
    }
  }
}

void add_recipe(CLI::App& app) {
  add_command(app, "recipe", "Explain what a recipe may say: every key, its default and its meaning.",
              "retrosparse recipe", [] { print(Recipe::documentation()); });
}

}  // namespace retrosparse::cli
