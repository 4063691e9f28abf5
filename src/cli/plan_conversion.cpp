#include "cli/plan_conversion.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/format.h"
#include "cli/output.h"
#include "cli/plan_view.h"
#include "convert/artifacts.h"
#include "plan/report.h"

namespace retrosparse::cli {
namespace {

using nlohmann::ordered_json;

std::string dtype_on(const std::string& asked, const Gpu* gpu) {
  return asked != "auto" ? asked : gpu == nullptr ? "float32" : "bfloat16";
}

double size_of(const std::string& dtype) {
  return dtype == "float32" ? 4 : 2;
}

Machine machine_on(const Gpu* gpu, const std::string& dtype) {
  return gpu == nullptr ? this_cpu() : machine_of(*gpu, size_of(dtype));
}

ConversionPlan read_plan(const std::string& model, const ConversionArguments& arguments) {
  ConversionPlan plan;
  plan.config = ModelConfig::read(model);
  plan.recipe = Recipe::read(arguments.recipe, arguments.settings);
  plan.prefill_chunk = arguments.prefill_chunk;
  if (plan.recipe.context_length > plan.config.max_position_embeddings) {
    throw Error("the recipe's context is longer than the model's")
        .key("context_length")
        .expected(fmt::format("at most {} (max_position_embeddings)", plan.config.max_position_embeddings))
        .found(std::to_string(plan.recipe.context_length));
  }
  plan.retrieval_heads = assumed_heads(plan.config, plan.recipe.plan);
  if (!arguments.head_plan.empty()) {
    const Report results = read_results(arguments.head_plan);
    if (!results.profile) {
      throw Error("no head plan").file(arguments.head_plan).key("profile");
    }
    plan.retrieval_heads = results.profile->retrieval_heads;
    HeadPlan{plan.config.num_attention_heads, plan.config.num_key_value_heads, {}, plan.retrieval_heads}.check(
        plan.config);
  }
  return plan;
}

struct Total {
  double tokens = 0, flops = 0, seconds = 0, peak_bytes = 0;
  bool fits = true;
};
Total total_of(const std::vector<StageCost>& stages) {
  Total total;
  for (const StageCost& stage : stages) {
    total.tokens += stage.tokens;
    total.flops += stage.flops;
    total.seconds += stage.seconds;
    total.peak_bytes = std::max(total.peak_bytes, stage.peak_bytes);
    total.fits = total.fits && stage.fits;
  }
  return total;
}

// The other GPUs of the table, in one line each.
struct Elsewhere {
  const Gpu* gpu;
  Total total;
};
std::vector<Elsewhere> on_all_gpus(ConversionPlan plan, const std::string& asked_dtype) {
  std::vector<Elsewhere> all;
  for (const Gpu& gpu : known_gpus()) {
    plan.element_size = size_of(dtype_on(asked_dtype, &gpu));
    plan.machine = machine_of(gpu, plan.element_size);
    all.push_back({&gpu, total_of(plan_conversion(plan))});
  }
  return all;
}

ordered_json stage_json(const StageCost& stage) {
  ordered_json json = {{"name", stage.name},
                       {"tokens", std::llround(stage.tokens)},
                       {"flops", stage.flops},
                       {"bytes", stage.bytes},
                       {"launches", stage.launches},
                       {"seconds", stage.seconds},
                       {"peak_bytes", stage.peak_bytes},
                       {"peak_at", stage.peak_at},
                       {"fits", stage.fits},
                       {"depends_on", stage.assumption},
                       {"terms", ordered_json::array()}};
  for (const MemoryTerm& term : stage.terms) {
    json["terms"].push_back({{"what", term.what}, {"bytes", term.bytes}});
  }
  return json;
}

ordered_json total_json(const Total& total) {
  return {{"tokens", std::llround(total.tokens)},
          {"flops", total.flops},
          {"seconds", total.seconds},
          {"peak_bytes", total.peak_bytes},
          {"fits", total.fits}};
}

// Where nothing is computed the rest counts, which is not predicted.
std::string time_text(double seconds) {
  return seconds < 0.1 ? "< 0.1 s" : seconds_text(seconds);
}

std::string stages_text(const std::vector<StageCost>& stages) {
  Table table({"stage", "tokens", "computed", "time", "peak memory", "where it peaks"});
  for (const StageCost& stage : stages) {
    table.add({stage.name, format_count(stage.tokens), flops_text(stage.flops), time_text(stage.seconds),
               format_bytes(stage.peak_bytes), stage.peak_at});
  }
  const Total total = total_of(stages);
  table.add({"all", format_count(total.tokens), flops_text(total.flops), time_text(total.seconds),
             format_bytes(total.peak_bytes), ""});
  return table.text();
}

std::string peak_text(const StageCost& stage) {
  Table table({fmt::format("memory at the peak of {}", stage.name), ""});
  for (const MemoryTerm& term : stage.terms) {
    table.add({term.what, format_bytes(term.bytes)});
  }
  return table.text();
}

std::string notes_text(const ConversionPlan& plan, const std::vector<StageCost>& stages, bool profiled) {
  std::string text;
  for (const StageCost& stage : stages) {
    if (!stage.fits) {
      text += fmt::format("  {} does not fit: {} of {} that may be used of {} ({}).\n", stage.name,
                          format_bytes(stage.peak_bytes), format_bytes(kUsableMemory * plan.machine.memory_bytes),
                          plan.machine.name, stage.peak_at);
    }
  }
  for (const StageCost& stage : stages) {
    if (!stage.assumption.empty()) {
      text += fmt::format("  {}: counted at the most what depends on the data: {}.\n", stage.name, stage.assumption);
    }
  }
  return text + fmt::format("  Which heads retrieve: {}. Reading and tokenizing the text is not counted.\n",
                            profiled ? "as profiled" : "assumed to lie in few layers, which takes the most memory");
}

}  // namespace

void run_conversion_plan(const std::string& model, const ConversionArguments& arguments, const std::string& dtype,
                         const std::string& gpu_name, bool json) {
  ConversionPlan plan = read_plan(model, arguments);
  const auto known = std::ranges::find(known_gpus(), gpu_name, &Gpu::name);
  const Gpu* gpu = known == known_gpus().end() ? nullptr : &*known;
  const std::string taken_dtype = dtype_on(dtype, gpu);
  plan.element_size = size_of(taken_dtype);
  plan.machine = machine_on(gpu, taken_dtype);
  const std::vector<StageCost> stages = plan_conversion(plan);
  const std::vector<Elsewhere> elsewhere = gpu_name.empty() ? on_all_gpus(plan, dtype) : std::vector<Elsewhere>();
  if (json) {
    ordered_json result = {{"architecture", plan.config.architecture},
                           {"dtype", taken_dtype},
                           {"machine", {{"name", plan.machine.name}, {"memory_bytes", plan.machine.memory_bytes}}},
                           {"usable_memory", kUsableMemory},
                           {"heads", arguments.head_plan.empty() ? "assumed" : "profiled"},
                           {"retrieval_heads", plan.retrieval_heads},
                           {"stages", ordered_json::array()},
                           {"total", total_json(total_of(stages))},
                           {"gpus", ordered_json::array()}};
    for (const StageCost& stage : stages) {
      result["stages"].push_back(stage_json(stage));
    }
    for (const Elsewhere& other : elsewhere) {
      ordered_json one = {{"name", other.gpu->name}};
      one.update(total_json(other.total));
      result["gpus"].push_back(std::move(one));
    }
    print_json(result);
    return;
  }
  std::string text = fmt::format("{} by {} on {}, {}\n", model, arguments.recipe, plan.machine.name, taken_dtype);
  text += stages_text(stages) + "\n" + peak_text(*std::ranges::max_element(stages, {}, &StageCost::peak_bytes)) + "\n";
  if (!elsewhere.empty()) {
    Table table({"elsewhere", "time", "peak memory", "of", "fits"});
    for (const Elsewhere& other : elsewhere) {
      table.add({other.gpu->name, time_text(other.total.seconds), format_bytes(other.total.peak_bytes),
                 fmt::format("{:.0f} GB", other.gpu->memory_bytes / 1e9), other.total.fits ? "yes" : "no"});
    }
    text += table.text() + "\n";
  }
  print(text + notes_text(plan, stages, !arguments.head_plan.empty()));
}

}  // namespace retrosparse::cli
