#include "convert/manifest.h"

#include <fmt/format.h>

#include <utility>

#include "base/file.h"
#include "base/json.h"

namespace retrosparse {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kVersion = 2;

ordered_json or_null(const std::optional<double>& value) {
  return value ? ordered_json(*value) : ordered_json();
}

std::optional<double> if_there(const JsonObject& json, std::string_view key) {
  return json.has(key) ? std::optional(json.get<double>(key)) : std::nullopt;
}

ordered_json to_json(const StageRecord& record) {
  return {{"state", record.state == StageRecord::State::kDone ? "done" : "running"},
          {"seconds", record.seconds},
          {"predicted_seconds", or_null(record.predicted_seconds)},
          {"peak_bytes", record.peak_bytes},
          {"predicted_peak_bytes", or_null(record.predicted_peak_bytes)},
          {"inputs", record.inputs},
          {"outputs", record.outputs}};
}

StageRecord read_record(const JsonObject& json) {
  StageRecord record;
  const auto state = json.get<std::string>("state");
  if (state != "done" && state != "running") {
    throw json.wrong_value("state", "done or running");
  }
  record.state = state == "done" ? StageRecord::State::kDone : StageRecord::State::kRunning;
  record.seconds = json.get<double>("seconds");
  record.peak_bytes = json.get<double>("peak_bytes");
  record.predicted_seconds = if_there(json, "predicted_seconds");
  record.predicted_peak_bytes = if_there(json, "predicted_peak_bytes");
  record.outputs = json.get<std::map<std::string, std::string>>("outputs");
  const JsonObject inputs = json.object("inputs");
  for (const auto& [key, value] : inputs.raw().items()) {
    record.inputs[key] = value;
  }
  return record;
}

}  // namespace

Manifest::Manifest(const std::filesystem::path& folder) : path_(folder / "manifest.json") {
  if (!std::filesystem::exists(path_)) {
    return;
  }
  const JsonObject json = JsonObject::read(path_);
  if (json.get<int64_t>("version") != kVersion) {
    throw json.wrong_value("version", fmt::format("{}: this folder was written by another version", kVersion));
  }
  for (const auto& [key, value] : json.raw().items()) {
    if (key != "version" && key != "stages") {
      description_[key] = value;
    }
  }
  const JsonObject stages = json.object("stages");
  for (const std::string& name : stages.keys()) {
    stages_[name] = read_record(stages.object(name));
  }
}

std::optional<StageRecord> Manifest::find(const std::string& stage) const {
  const auto found = stages_.find(stage);
  return found == stages_.end() ? std::nullopt : std::optional(found->second);
}

void Manifest::put(const std::string& stage, StageRecord record) {
  stages_[stage] = std::move(record);
  write();
}

void Manifest::remove(const std::string& stage) {
  stages_.erase(stage);
  write();
}

void Manifest::describe(ordered_json description) {
  description_ = std::move(description);
}

void Manifest::write() const {
  ordered_json json = {{"version", kVersion}};
  json.update(description_);
  json["stages"] = ordered_json::object();
  for (const auto& [name, record] : stages_) {
    json["stages"][name] = to_json(record);
  }
  write_atomically(path_, json.dump(2) + "\n");
}

std::vector<std::string> differences(const StageInputs& before, const StageInputs& now) {
  std::vector<std::string> words;
  const auto shown = [](const nlohmann::json& value) {
    const std::string text = value.dump();
    constexpr size_t kLong = 60;
    return text.size() > kLong ? fmt::format("{}...", text.substr(0, kLong)) : text;
  };
  for (const auto& [name, value] : now) {
    const auto old = before.find(name);
    if (old == before.end()) {
      words.push_back(fmt::format("{} is new", name));
    } else if (old->second != value) {
      words.push_back(name.find(' ') == std::string::npos && name.find('.') != std::string::npos
                          ? fmt::format("{} was {}, is {}", name, shown(old->second), shown(value))
                          : fmt::format("{} changed", name));
    }
  }
  for (const auto& [name, value] : before) {
    if (!now.contains(name)) {
      words.push_back(fmt::format("{} is gone", name));
    }
  }
  return words;
}

}  // namespace retrosparse
