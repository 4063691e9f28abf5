#include "train/training_state.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"

namespace retrosparse {
namespace {

constexpr char kTensors[] = "state.safetensors";
constexpr char kProgress[] = "state.json";

}  // namespace

void TrainingState::save(const std::filesystem::path& folder) const {
  AtomicFolder target(folder, /*replace=*/true);
  write_safetensors(target.staging() / kTensors, tensors);
  const nlohmann::json json{{"next_step", next_step}, {"settings", settings}, {"data", data.to_json()}};
  write_atomically(target.staging() / kProgress, json.dump(2) + "\n");
  target.commit();
}

std::optional<TrainingState> TrainingState::load(const std::filesystem::path& folder) {
  if (!std::filesystem::exists(folder)) {
    return std::nullopt;
  }
  try {
    const JsonObject json = JsonObject::read(folder / kProgress);
    TrainingState state;
    state.next_step = json.get<int64_t>("next_step");
    state.settings = json.get<std::string>("settings");
    state.data = DataState::from_json(json.object("data"));
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

void truncate_metrics(const std::filesystem::path& path, int64_t lines) {
  std::ifstream in(path);
  std::string kept, line;
  for (int64_t count = 0; count < lines && std::getline(in, line); ++count) {
    kept += line + "\n";
  }
  write_atomically(path, kept);
}

}  // namespace retrosparse
