#pragma once
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace retrosparse {

/// What went into a stage: recipe settings with their values, and digests of files, by readable names.
using StageInputs = std::map<std::string, nlohmann::json>;

/// One stage of a conversion as manifest.json has it.
struct StageRecord {
  enum class State { kRunning, kDone };

  State state = State::kRunning;
  StageInputs inputs;
  std::map<std::string, std::string> outputs;  ///< file, relative to the conversion's folder -> digest
  double seconds = 0;
  double peak_bytes = 0;  ///< the most memory of the device while the stage ran, see peak_memory()
  std::optional<double> predicted_seconds, predicted_peak_bytes;  ///< by plan_conversion(), before it ran
};

/// manifest.json: which stages of a conversion are done, and with what. Every change is written at once and atomically.
class Manifest {
 public:
  /// Reads the one in `folder`, or begins one. Error: damaged, or written by another version of the format.
  explicit Manifest(const std::filesystem::path& folder);

  std::optional<StageRecord> find(const std::string& stage) const;

  void put(const std::string& stage, StageRecord record);
  void remove(const std::string& stage);

  /// What is shown besides: the resolved recipe, versions.
  void describe(nlohmann::ordered_json description);

 private:
  void write() const;

  std::filesystem::path path_;
  nlohmann::ordered_json description_ = nlohmann::ordered_json::object();
  std::map<std::string, StageRecord> stages_;
};

/// In words, what differs between two sets of inputs: "train.steps was 300, is 600". Empty where nothing does.
std::vector<std::string> differences(const StageInputs& before, const StageInputs& now);

}  // namespace retrosparse
