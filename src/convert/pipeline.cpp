#include "convert/pipeline.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "convert/manifest.h"
#include "convert/prediction.h"
#include "model/peak_memory.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;

// "plan" stands for all keys of that section, "plan.window" for one.
bool is_selected(const std::string& key, const std::vector<std::string>& settings) {
  return std::ranges::any_of(
      settings, [&](const std::string& setting) { return key == setting || key.starts_with(setting + "."); });
}

const Stage& stage_of(const std::string& name) {
  return *std::ranges::find(conversion_stages(), name, &Stage::name);
}

StageInputs inputs_of(const Stage& stage, const Workspace& workspace, const Manifest& manifest) {
  StageInputs inputs;
  const nlohmann::ordered_json recipe = workspace.recipe().to_json();
  for (const auto& [section, values] : recipe.items()) {
    if (!values.is_object()) {
      inputs[section] = values;  // context_length and seed count everywhere
      continue;
    }
    for (const auto& [key, value] : values.items()) {
      if (is_selected(section + "." + key, stage.settings)) {
        inputs[section + "." + key] = value;
      }
    }
  }
  for (const auto& [name, digest] : workspace.input_digests()) {
    inputs[name + " (content)"] = digest;
  }
  inputs["run.dtype"] = std::string(c10::toString(workspace.options().dtype));
  for (const std::string& name : stage.after) {
    const auto record = manifest.find(name);
    if (record && stage_of(name).is_wanted(workspace.recipe())) {
      for (const auto& [file, digest] : record->outputs) {
        inputs[fmt::format("{} (content)", file)] = digest;
      }
    }
  }
  return inputs;
}

bool outputs_are_there(const StageRecord& record, const fs::path& out) {
  return std::ranges::all_of(record.outputs, [&](const auto& output) {
    const auto& [file, digest] = output;
    return fs::exists(out / file) && hash_file(out / file) == digest;
  });
}

void check_predecessors(const Stage& stage, const Workspace& workspace, const Manifest& manifest) {
  for (const std::string& name : stage.after) {
    const auto record = manifest.find(name);
    if (stage_of(name).is_wanted(workspace.recipe()) && (!record || record->state != StageRecord::State::kDone ||
                                                         !outputs_are_there(*record, workspace.options().out))) {
      throw Error(fmt::format("{} needs what {} writes", stage.name, name))
          .file(workspace.options().out.string())
          .hint(fmt::format("run `retrosparse {}` or `retrosparse convert` with the same options first", name));
    }
  }
}

// Removes what an earlier run with other inputs left.
void start_anew(const Stage& stage, const fs::path& out) {
  fs::remove_all(out / stage.folder);
}

// The digests of a file, or of all files in a folder, by their names relative to the conversion's folder.
void add_digests(std::map<std::string, std::string>& digests, const fs::path& out, const std::string& name) {
  if (!fs::is_directory(out / name)) {
    digests[name] = hash_file(out / name);
    return;
  }
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(out / name)) {
    if (entry.is_regular_file()) {
      digests[fs::relative(entry.path(), out).string()] = hash_file(entry.path());
    }
  }
}

StageRecord finished(const Stage& stage, StageRecord record, const Workspace& workspace, double seconds) {
  const fs::path& out = workspace.options().out;
  for (const std::string& name : stage.outputs) {
    if (!fs::exists(out / name)) {
      throw std::logic_error(fmt::format("stage {} did not write {}", stage.name, name));
    }
    add_digests(record.outputs, out, name);
  }
  for (const std::string& name : stage.optional_outputs) {
    if (fs::exists(out / name)) {
      add_digests(record.outputs, out, name);
    }
  }
  record.state = StageRecord::State::kDone;
  record.seconds += seconds;
  record.peak_bytes = static_cast<double>(peak_memory(workspace.options().device));
  return record;
}

StageOutcome run_stage(const Stage& stage, Workspace& workspace, Manifest& manifest) {
  const fs::path& out = workspace.options().out;
  check_predecessors(stage, workspace, manifest);
  const bool is_main = workspace.group().is_main();
  StageRecord record;
  record.inputs = inputs_of(stage, workspace, manifest);
  const auto before = manifest.find(stage.name);
  if (before) {
    const std::vector<std::string> changes = differences(before->inputs, record.inputs);
    const bool done = before->state == StageRecord::State::kDone;
    if (changes.empty() && done && outputs_are_there(*before, out)) {
      log_info("{}: done before, in {}", stage.name, format_duration(before->seconds));
      return {stage.name, before->seconds, true};
    }
    if (!changes.empty()) {
      log_info("{}: runs again, since {}", stage.name, fmt::join(changes, "; "));
    } else if (done) {
      log_info("{}: runs again, since its files changed or are gone", stage.name);
    }
    const bool goes_on = changes.empty() && stage.keeps_state;
    const bool is_damaged = changes.empty() && done;
    if (!goes_on && (!stage.swaps_folder || is_damaged)) {
      workspace.group().barrier();  // all have looked at the old files
      if (is_main) {
        start_anew(stage, out);
      }
    }
    if (goes_on) {
      record.seconds = done ? 0 : before->seconds;
    }
  }
  workspace.group().barrier();
  if (is_main) {
    if (const auto cost = predict_stage(stage.name, workspace)) {
      record.predicted_seconds = cost->seconds;
      record.predicted_peak_bytes = cost->peak_bytes;
    }
    fs::create_directories(out / stage.folder);
    manifest.put(stage.name, record);
  }
  std::optional<InterruptGuard> guard;  // a stage that keeps state has its own
  if (!stage.keeps_state) {
    guard.emplace();
  }
  log_info("== {}: {}", stage.name, stage.summary);
  restart_peak_memory(workspace.options().device);
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  try {
    stage.run(workspace);
  } catch (const Interrupted&) {
    record.seconds += seconds();
    if (is_main) {
      manifest.put(stage.name, record);
    }
    log_info("{}: stopped; the same command goes on {}", stage.name,
             stage.keeps_state ? "where it was" : "with this stage");
    throw;
  }
  if (is_main) {
    manifest.put(stage.name, finished(stage, record, workspace, seconds()));
  }
  if (guard && InterruptGuard::requested()) {  // too late for this stage to see it
    log_info("{}: done; the same command goes on with the next stage", stage.name);
    throw Interrupted();
  }
  guard.reset();                      // those that wait have nothing to save
  workspace.group().wait_for_main();  // it calibrates and validates alone, which may take hours
  return {stage.name, record.seconds + seconds(), false};
}

void check_out(const fs::path& out) {
  if (fs::exists(out) && !(fs::is_directory(out) && (fs::is_empty(out) || fs::exists(out / "manifest.json")))) {
    throw Error("not a place for a conversion")
        .file(out.string())
        .expected("a folder that is new, empty, or written by an earlier conversion");
  }
}

// Folders of stages that never ran here are someone else's, and would be overwritten.
void check_stage_folders(const Workspace& workspace, const std::vector<const Stage*>& stages) {
  const fs::path& out = workspace.options().out;
  const Manifest manifest(out);
  for (const Stage* stage : stages) {
    std::vector<std::string> names = stage->optional_outputs;
    names.push_back(stage->folder);
    for (const std::string& name : names) {
      if (!manifest.find(stage->name) && fs::exists(out / name) &&
          !(fs::is_directory(out / name) && fs::is_empty(out / name))) {
        throw Error(fmt::format("exists, and no {} stage of this conversion wrote it", stage->name))
            .file((out / name).string())
            .hint("move it away, or name another --out");
      }
    }
  }
}

// Settings may change: then their stages run again. Another model has nothing in common with what is there.
void check_model(const Workspace& workspace) {
  const Manifest manifest(workspace.options().out);
  const auto& [name, digest] = workspace.input_digests().front();
  const std::string key = name + " (content)";
  for (const Stage& stage : conversion_stages()) {
    const auto record = manifest.find(stage.name);
    if (record && record->inputs.contains(key) && record->inputs.at(key) != digest) {
      throw Error("this folder holds the conversion of another model")
          .file(workspace.options().out.string())
          .hint("name another folder, or remove this one");
    }
  }
}

}  // namespace

std::vector<StageOutcome> run_conversion(Workspace& workspace, const std::vector<std::string>& names) {
  const fs::path& out = workspace.options().out;
  check_out(out);
  if (workspace.group().is_main()) {
    fs::create_directories(out);
    remove_leftovers(out / "manifest.json");
  }
  workspace.group().barrier();
  check_model(workspace);
  std::vector<const Stage*> stages;
  for (const Stage& stage : conversion_stages()) {
    const bool is_named = std::ranges::count(names, stage.name) > 0;
    if (is_named || (names.empty() && stage.is_wanted(workspace.recipe()))) {
      stages.push_back(&stage);
    }
  }
  check_stage_folders(workspace, stages);
  std::vector<StageOutcome> outcomes;
  for (const Stage* stage : stages) {
    workspace.group().barrier();  // rank 0 has written what the others read now
    Manifest manifest(out);
    manifest.describe({{"retrosparse", RETROSPARSE_VERSION},
                       {"torch", TORCH_VERSION},
                       {"model", workspace.empty_report().model.name},
                       {"recipe", workspace.recipe().to_json()}});
    outcomes.push_back(run_stage(*stage, workspace, manifest));
  }
  return outcomes;
}

void export_conversion(Workspace& workspace, const fs::path& to, bool overwrite) {
  const Manifest manifest(workspace.options().out);
  check_model(workspace);
  check_predecessors(stage_of("export"), workspace, manifest);
  if (workspace.group().is_main()) {
    log_info("export to {}", to.string());
    export_converted(workspace, to, overwrite);
  }
  workspace.group().barrier();
}

}  // namespace retrosparse
