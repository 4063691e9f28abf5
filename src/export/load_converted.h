#pragma once
#include <filesystem>

#include "export/settings_json.h"
#include "model/config.h"

namespace retrosparse {

inline constexpr char kAdapterTensors[] = "adapter.safetensors";
inline constexpr char kAdapterSettings[] = "retrosparse.json";

/// Reads the settings and the index of a converted checkpoint, or of an adapter (a folder with retrosparse.json).
/// `config`: of the checkpoint itself, or of the model that the adapter is for. The index is float32 on `device`.
/// Error: as parse_settings; neither kind of folder; index tensors that are missing, left over, of wrong shape, not
/// floating-point, or not finite.
ConvertedModel load_converted(const std::filesystem::path& folder, const ModelConfig& config, at::Device device);

}  // namespace retrosparse
