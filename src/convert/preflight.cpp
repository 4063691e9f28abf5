#include "convert/preflight.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "convert/stage_record.h"
#include "export/exported_files.h"

namespace retrosparse {

namespace fs = std::filesystem;

namespace {

// What differs between what the stage ran with and what it would run with now. Precision does not count: a model may be
// trained in one and measured in another.
std::vector<std::string> changes_since(StageInputs before, StageInputs now) {
  before.erase("run.dtype");
  now.erase("run.dtype");
  return differences(before, now);
}

// Between what a stage ran with and what it would run with now; not of files that a stage has still to write again.
std::vector<std::string> known_changes(const Stage& stage, const StageRecord& record, const Workspace& workspace,
                                       const Manifest& manifest) {
  StageInputs before = record.inputs, now = inputs_of(stage, workspace, manifest);
  for (const std::string& name : stage.after) {
    const auto predecessor = manifest.find(name);
    if (predecessor && predecessor->state != StageRecord::State::kDone) {
      const Stage& writer = stage_of(name);
      for (const auto* outputs : {&writer.outputs, &writer.optional_outputs}) {
        for (const std::string& output : *outputs) {
          std::erase_if(before, [&](const auto& input) {
            return input.first.starts_with(output + "/") || input.first.starts_with(output + " (");
          });
        }
      }
    }
  }
  return differences(before, now);
}

void check_warmup(const char* section, int64_t warmup, int64_t steps) {
  if (steps > 0 && warmup >= steps) {
    log_warning("{0}.warmup = {1} is not below {0}.steps = {2}: the learning rate never reaches its peak", section,
                warmup, steps);
  }
}

}  // namespace

void check_predecessors(const Stage& stage, const Workspace& workspace, const Manifest& manifest) {
  const fs::path& out = workspace.options().out;
  for (const std::string& name : stage.after) {
    if (!stage_of(name).is_wanted(workspace.recipe())) {
      continue;
    }
    const auto record = manifest.find(name);
    if (!record || record->state != StageRecord::State::kDone) {
      throw Error(fmt::format("{} needs what {} writes", stage.name, name))
          .file(out.string())
          .hint(fmt::format("run `retrosparse {}` or `retrosparse convert` with the same options first", name));
    }
    if (const auto file = damaged_output(*record, out)) {
      throw Error(fmt::format("not what {} wrote", name))
          .file((out / *file).string())
          .found(fs::exists(out / *file) ? "another content" : "no such file")
          .hint(fmt::format("run `retrosparse {}` again", name));
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

void check_out(const fs::path& out) {
  if (fs::exists(out) && !(fs::is_directory(out) && (fs::is_empty(out) || fs::exists(out / "manifest.json")))) {
    throw Error("not a place for a conversion")
        .file(out.string())
        .expected("a folder that is new, empty, or written by an earlier conversion");
  }
}

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

void check_exports(const Workspace& workspace, const std::vector<const Stage*>& stages) {
  const fs::path& out = workspace.options().out;
  const Manifest manifest(out);
  std::vector<std::string> running;
  for (const Stage& stage : conversion_stages()) {
    const auto record = manifest.find(stage.name);
    const auto runs = [&](const std::string& name) { return std::ranges::count(running, name) > 0; };
    if (!stage.is_wanted(workspace.recipe()) ||
        (record && record->state == StageRecord::State::kDone && std::ranges::none_of(stage.after, runs) &&
         known_changes(stage, *record, workspace, manifest).empty())) {
      continue;
    }
    running.push_back(stage.name);
    if (stage.swaps_folder && std::ranges::count(stages, &stage) > 0) {
      refuse_files_of_others(out / stage.folder);
      for (const std::string& output : stage.optional_outputs) {
        refuse_files_of_others(out / output);
      }
    }
  }
}

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

void check_training_is_kept(const Workspace& workspace, const std::vector<const Stage*>& stages) {
  const Manifest manifest(workspace.options().out);
  std::vector<std::string> stale, lost, reasons, reasons_so_far;
  for (const Stage& stage : conversion_stages()) {
    const auto record = manifest.find(stage.name);
    if (!record || !stage.is_wanted(workspace.recipe())) {
      continue;
    }
    const auto changes = known_changes(stage, *record, workspace, manifest);
    const bool follows =
        std::ranges::any_of(stage.after, [&](const std::string& name) { return std::ranges::count(stale, name) > 0; });
    if (changes.empty() && !follows) {
      continue;
    }
    stale.push_back(stage.name);
    for (const std::string& change : changes) {
      if (std::ranges::count(reasons_so_far, change) == 0) {
        reasons_so_far.push_back(change);
      }
    }
    if (stage.keeps_state && std::ranges::count(stages, &stage) > 0 && record->state == StageRecord::State::kDone) {
      lost.push_back(stage.name);
      reasons = reasons_so_far;
    }
  }
  if (!lost.empty()) {
    throw would_begin_anew(lost, reasons, workspace.options().out);
  }
}

Error would_begin_anew(const std::vector<std::string>& stages, const std::vector<std::string>& changes,
                       const fs::path& out) {
  return Error(fmt::format("made with other settings: {} would begin anew", fmt::join(stages, " and ")))
      .file(out.string())
      .found(fmt::format("{}", fmt::join(changes, "; ")))
      .hint("--rerun lets it; another --out keeps both");
}

void warn_of_warmup(const Recipe& recipe) {
  check_warmup("train", recipe.train.learning_rate.warmup, recipe.train.steps);
  check_warmup("distill", recipe.distill.learning_rate.warmup, recipe.distill.steps);
}

}  // namespace retrosparse
