#include "convert/stage_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <tuple>

#include "base/hash.h"
#include "model/peak_memory.h"
#include "model/weights.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;

// Hashed once in a process as long as it stays as it is: a conversion of a large model asks again and again.
std::string digest_of(const fs::path& file) {
  static std::map<std::tuple<fs::path, uintmax_t, fs::file_time_type>, std::string> known;
  std::string& digest = known[{file, fs::file_size(file), fs::last_write_time(file)}];
  if (digest.empty()) {
    digest = hash_file(file);
  }
  return digest;
}

// "plan" stands for all keys of that section, "plan.window" for one.
bool is_selected(const std::string& key, const std::vector<std::string>& settings) {
  return std::ranges::any_of(
      settings, [&](const std::string& setting) { return key == setting || key.starts_with(setting + "."); });
}

// The digests of a file, or of all files in a folder, by their names relative to the conversion's folder.
void add_digests(std::map<std::string, std::string>& digests, const fs::path& out, const std::string& name) {
  if (!fs::is_directory(out / name)) {
    digests[name] = digest_of(out / name);
    return;
  }
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(out / name)) {
    if (entry.is_regular_file()) {
      digests[fs::relative(entry.path(), out).string()] = digest_of(entry.path());
    }
  }
}

}  // namespace

const Stage& stage_of(const std::string& name) {
  const auto stage = std::ranges::find(conversion_stages(), name, &Stage::name);
  if (stage == conversion_stages().end()) {
    throw std::logic_error("no stage " + name);
  }
  return *stage;
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
  inputs["run.dtype"] = config_dtype_name(workspace.options().dtype);
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

std::optional<std::string> damaged_output(const StageRecord& record, const fs::path& out) {
  for (const auto& [file, digest] : record.outputs) {
    if (!fs::exists(out / file) || digest_of(out / file) != digest) {
      return file;
    }
  }
  return std::nullopt;
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

}  // namespace retrosparse
