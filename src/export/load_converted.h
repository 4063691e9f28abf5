#pragma once
#include <filesystem>

#include "checkpoint/checkpoint.h"
#include "export/settings_json.h"
#include "model/config.h"
#include "model/tensor_match.h"

namespace retrosparse {

inline constexpr char kAdapterTensors[] = "adapter.safetensors";
inline constexpr char kAdapterSettings[] = "retrosparse.json";

/// Reads the settings and the index of a converted checkpoint, or of an adapter (a folder with retrosparse.json).
/// `config`: of the checkpoint itself, or of the model that the adapter is for. The index is float32 on `device`.
/// Error: as parse_settings; neither kind of folder; index tensors that are missing, left over, of wrong shape, not
/// floating-point, or not finite.
ConvertedModel load_converted(const std::filesystem::path& folder, const ModelConfig& config, at::Device device);

/// The settings alone, without a look at the weights, of a converted checkpoint's folder or its config.json. The
/// indexer has shapes and no numbers. Error: as parse_settings; not a converted checkpoint.
ConvertedModel read_settings(const std::filesystem::path& path, const ModelConfig& config);

/// Adds to what match_tensors found the index tensors of a converted checkpoint, by names, dtypes and shapes.
void match_index(const Checkpoint& checkpoint, const Indexer& indexer, TensorMatch& match);

}  // namespace retrosparse
