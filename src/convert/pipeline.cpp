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
#include "base/leftovers.h"
#include "base/log.h"
#include "convert/manifest.h"
#include "convert/prediction.h"
#include "convert/preflight.h"
#include "convert/set_aside.h"
#include "convert/stage_record.h"
#include "export/exported_files.h"
#include "model/peak_memory.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;

StageOutcome run_stage(const Stage& stage, Workspace& workspace, Manifest& manifest) {
  const fs::path& out = workspace.options().out;
  check_predecessors(stage, workspace, manifest);
  const bool is_main = workspace.group().is_main();
  StageRecord record;
  record.inputs = inputs_of(stage, workspace, manifest);
  bool starts_anew = false, goes_on = false, done = false;
  const auto before = manifest.find(stage.name);
  if (before) {
    const std::vector<std::string> changes = differences(before->inputs, record.inputs);
    done = before->state == StageRecord::State::kDone;
    if (changes.empty() && done && !damaged_output(*before, out)) {
      log_info("{}: done before, in {}", stage.name, format_duration(before->seconds));
      return {stage.name, before->seconds, true};
    }
    if (!changes.empty() && done && stage.keeps_state && !workspace.options().rerun) {
      throw would_begin_anew({stage.name}, changes, out);  // for what was not known before its predecessors ran again
    }
    if (!changes.empty()) {
      log_info("{}: runs again, since {}", stage.name, fmt::join(changes, "; "));
    } else if (done) {
      log_info("{}: runs again, since its files changed or are gone", stage.name);
    }
    goes_on = changes.empty() && stage.keeps_state;
    const bool is_damaged = changes.empty() && done;
    starts_anew = !goes_on && (!stage.swaps_folder || is_damaged);
    if (goes_on) {
      record.seconds = done ? 0 : before->seconds;
    }
  }
  if (std::ranges::count(stage.settings, "data") > 0) {
    workspace.check_data();
  }
  if (stage.swaps_folder) {
    refuse_files_of_others(out / stage.folder);
    for (const std::string& output : stage.optional_outputs) {
      refuse_files_of_others(out / output);
    }
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
      manifest.put(stage.name, done && goes_on ? *before : record);  // finished training stays finished
      put_back(stage, out, manifest);
    }
    log_info("{}: stopped; the same command goes on {}", stage.name,
             stage.keeps_state ? "where it was" : "with this stage");
    throw;
  } catch (...) {
    if (is_main) {
      if (done && goes_on) {
        manifest.put(stage.name, *before);
      }
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
    warn_of_warmup(workspace.recipe());
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
  if (!names.empty()) {
    for (const Stage* stage : stages) {
      check_predecessors(*stage, workspace, Manifest(out));
    }
  }
  if (!workspace.options().rerun) {
    check_training_is_kept(workspace, stages);
  }
  check_exports(workspace, stages);
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
