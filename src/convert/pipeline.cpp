#include "convert/pipeline.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "convert/manifest.h"
#include "convert/prediction.h"
#include "convert/set_aside.h"
#include "convert/stage_record.h"
#include "model/peak_memory.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;

// What differs between what the stage ran with and what it would run with now. Precision does not count: a model may be
// trained in one and measured in another.
std::vector<std::string> changes_since(StageInputs before, StageInputs now) {
  before.erase("run.dtype");
  now.erase("run.dtype");
  return differences(before, now);
}

void check_predecessors(const Stage& stage, const Workspace& workspace, const Manifest& manifest) {
  const fs::path& out = workspace.options().out;
  for (const std::string& name : stage.after) {
    if (!stage_of(name).is_wanted(workspace.recipe())) {
      continue;
    }
    const auto record = manifest.find(name);
    if (!record || record->state != StageRecord::State::kDone || !outputs_are_there(*record, out)) {
      throw Error(fmt::format("{} needs what {} writes", stage.name, name))
          .file(out.string())
          .hint(fmt::format("run `retrosparse {}` or `retrosparse convert` with the same options first", name));
    }
    const auto changes = changes_since(record->inputs, inputs_of(stage_of(name), workspace, manifest));
    if (!changes.empty()) {
      throw Error(fmt::format("{} follows {}, which ran with other settings", stage.name, name))
          .file(out.string())
          .found(fmt::format("{}", fmt::join(changes, "; ")))
          .hint(fmt::format("run `retrosparse {}` again, or give the settings that it had", name));
    }
  }
}

StageOutcome run_stage(const Stage& stage, Workspace& workspace, Manifest& manifest) {
  const fs::path& out = workspace.options().out;
  check_predecessors(stage, workspace, manifest);
  const bool is_main = workspace.group().is_main();
  StageRecord record;
  record.inputs = inputs_of(stage, workspace, manifest);
  bool starts_anew = false;
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
    starts_anew = !goes_on && (!stage.swaps_folder || is_damaged);
    if (goes_on) {
      record.seconds = done ? 0 : before->seconds;
    }
  }
  if (std::ranges::count(stage.settings, "data") > 0) {
    workspace.check_data();
  }
  workspace.group().barrier();  // all have looked at the old files
  if (is_main) {
    if (starts_anew) {
      set_aside(stage, out, manifest);
    }
    if (const auto cost = predict_stage(stage.name, workspace)) {
      record.predicted_seconds = cost->seconds;
      record.predicted_peak_bytes = cost->peak_bytes;
    }
    fs::create_directories(out / stage.folder);
    manifest.put(stage.name, record);
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
      put_back(stage, out, manifest);
    }
    log_info("{}: stopped; the same command goes on {}", stage.name,
             stage.keeps_state ? "where it was" : "with this stage");
    throw;
  } catch (...) {
    if (is_main) {
      put_back(stage, out, manifest);
    }
    throw;
  }
  if (is_main) {
    manifest.put(stage.name, finished(stage, record, workspace, seconds()));
    forget_aside(stage, out, manifest);
  }
  if (InterruptGuard::requested()) {  // too late for this stage to see it
    log_info("{}: done; the same command goes on with the next stage", stage.name);
    throw Interrupted();
  }
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

// Finished training is not thrown away for a setting that another recipe happens to have: only where the user says so.
void check_training_is_kept(const Workspace& workspace) {
  const Manifest manifest(workspace.options().out);
  std::vector<std::string> stale, lost, reasons;
  for (const Stage& stage : conversion_stages()) {
    const auto record = manifest.find(stage.name);
    if (!record || !stage.is_wanted(workspace.recipe())) {
      continue;
    }
    const auto changes = differences(record->inputs, inputs_of(stage, workspace, manifest));
    const bool follows =
        std::ranges::any_of(stage.after, [&](const std::string& name) { return std::ranges::count(stale, name) > 0; });
    if (changes.empty() && !follows) {
      continue;
    }
    stale.push_back(stage.name);
    for (const std::string& change : changes) {
      if (std::ranges::count(reasons, change) == 0) {
        reasons.push_back(change);
      }
    }
    if (stage.keeps_state && record->state == StageRecord::State::kDone) {
      lost.push_back(stage.name);
    }
  }
  if (!lost.empty()) {
    throw Error(fmt::format("made with other settings: {} would begin anew", fmt::join(lost, " and ")))
        .file(workspace.options().out.string())
        .found(fmt::format("{}", fmt::join(reasons, "; ")))
        .hint("--rerun lets it; another --out keeps both");
  }
}

void check_warmup(const char* section, int64_t warmup, int64_t steps) {
  if (steps > 0 && warmup >= steps) {
    log_warning("{0}.warmup = {1} is not below {0}.steps = {2}: the learning rate never reaches its peak", section,
                warmup, steps);
  }
}

}  // namespace

std::vector<StageOutcome> run_conversion(Workspace& workspace, const std::vector<std::string>& names) {
  const InterruptGuard guard;
  const fs::path& out = workspace.options().out;
  check_out(out);
  if (workspace.group().is_main()) {
    fs::create_directories(out);
    remove_leftovers(out / "manifest.json");
    Manifest manifest(out);
    for (const Stage& stage : conversion_stages()) {
      put_back(stage, out, manifest);
    }
    check_warmup("train", workspace.recipe().train.learning_rate.warmup, workspace.recipe().train.steps);
    check_warmup("distill", workspace.recipe().distill.learning_rate.warmup, workspace.recipe().distill.steps);
  }
  workspace.group().barrier();
  check_model(workspace);
  std::vector<const Stage*> stages;
  for (const Stage& stage : conversion_stages()) {
    const bool is_named = std::ranges::count(names, stage.name) > 0;
    if (is_named && !stage.is_wanted(workspace.recipe())) {
      throw Error(fmt::format("the recipe has no {}: distill.steps is 0", stage.name)).file(out.string());
    }
    if (is_named || (names.empty() && stage.is_wanted(workspace.recipe()))) {
      stages.push_back(&stage);
    }
  }
  check_stage_folders(workspace, stages);
  if (names.empty() && !workspace.options().rerun) {
    check_training_is_kept(workspace);
  }
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
