#include "train/training_state.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"

namespace retrosparse {
namespace {

constexpr char kTensors[] = "state.safetensors";
constexpr char kProgress[] = "state.json";

std::string digest_of(const nlohmann::json& json) {
  return hash_text(json.dump());
}

}  // namespace

void TrainingState::save(const std::filesystem::path& folder) const {
  AtomicFolder target(folder, /*replace=*/true);
  write_safetensors(target.staging() / kTensors, tensors);
  nlohmann::json json{{"next_step", next_step},
                      {"settings", settings},
                      {"data", data.to_json()},
                      {"tensors", hash_file(target.staging() / kTensors)}};
  json["digest"] = digest_of(json);
  write_atomically(target.staging() / kProgress, json.dump(2) + "\n");
  target.commit();
}

std::optional<TrainingState> TrainingState::load(const std::filesystem::path& folder) {
  if (!std::filesystem::exists(folder)) {
    return std::nullopt;
  }
  try {
    const JsonObject json = JsonObject::read(folder / kProgress);
    nlohmann::json progress = nlohmann::json::parse(read_text(folder / kProgress));
    progress.erase("digest");
    if (digest_of(progress) != json.get<std::string>("digest")) {
      throw Error("damaged: it is not what the training saved").file((folder / kProgress).string());
    }
    TrainingState state;
    state.next_step = json.get<int64_t>("next_step");
    state.settings = json.get<std::string>("settings");
    state.data = DataState::from_json(json.object("data"));
    const auto expected = json.get<std::string>("tensors"), found = hash_file(folder / kTensors);
    if (found != expected) {
      throw Error("damaged: it is not what the training saved")
          .file((folder / kTensors).string())
          .expected("the digest " + expected)
          .found(found);
    }
    const SafetensorsFile file(folder / kTensors);
    for (const auto& [name, info] : file.tensors()) {
      state.tensors[name] = file.tensor(name).clone();
    }
    return state;
  } catch (Error& error) {
    error.hint(fmt::format("remove {} to begin this stage anew", folder.string()));
    throw;
  }
}

std::string kept_metrics(const std::filesystem::path& path, int64_t next_step) {
  std::ifstream in(path);
  std::string kept, line;
  for (int64_t step = 0; step < next_step; ++step) {
    std::getline(in, line);
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!in || !json.is_object() || json.value("step", nlohmann::json()) != step) {
      throw Error("damaged: it is not what the training wrote")
          .file(path.string())
          .expected(fmt::format("step {} in line {}", step, step + 1))
          .found(in ? fmt::format("'{:.60}'", line) : "the end of the file")
          .hint(fmt::format("remove {} to begin this stage anew", (path.parent_path() / "state").string()));
    }
    kept += line + "\n";
  }
  return kept;
}

}  // namespace retrosparse
