#pragma once
#include <cstdint>
#include <filesystem>

#include "checkpoint/checkpoint.h"
#include "export/settings_json.h"
#include "model/config.h"
#include "model/weights.h"

namespace retrosparse {

/// What is exported. References have to outlive the call only.
struct ExportInput {
  const Checkpoint& source;   ///< the model that was converted
  const ModelConfig& config;  ///< its configuration
  const ConvertedModel& converted;
  const ModelWeights* weights = nullptr;  ///< where stage 2 trained them, on any device; null: those of `source`
};

struct ExportOptions {
  bool replace = false;                          ///< an earlier export of the same name
  uint64_t max_shard_bytes = uint64_t{5} << 30;  ///< of tensor data
};

/// Writes a checkpoint that engines load: all tensors of the model in the dtype that `source` stores them in, the index
/// tensors in float32, config.json with the settings, the tokenizer's and other small files of `source`, the modelling
/// code for transformers and a model card. In config.json all keys of the source stay in their order, but
///   architectures  ["RetroSparse<Architecture>"], model_type "retrosparse_<family>": so an engine that does not know
///                  them refuses, where it would silently run the model dense otherwise
///   auto_map       the modelling code's classes
///   retrosparse    settings_json
/// The folder appears complete or not at all. Error: as open_output_folder; tensors that do not fit `config`; anything
/// of the system, a full disk for one.
void export_model(const ExportInput& input, const std::filesystem::path& out, const ExportOptions& options = {});

}  // namespace retrosparse
