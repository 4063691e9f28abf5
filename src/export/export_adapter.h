#pragma once
#include <filesystem>

#include "checkpoint/checkpoint.h"
#include "export/export_model.h"

namespace retrosparse {

/// Writes the small part of a conversion alone, for those who have the model already:
///   adapter.safetensors  the index tensors, by the names of the exported checkpoint
///   retrosparse.json     {"version": 1, "base": {"architecture", "identity"}, "retrosparse": settings_json}
///   README.md
/// `input.weights` has to be null: weights that stage 2 changed do not fit into an adapter (std::logic_error). Error:
/// as open_output_folder, or of the system.
void export_adapter(const ExportInput& input, const std::filesystem::path& out, bool replace = false);

/// Error where the adapter in `folder` was made for another checkpoint than `base`, or is not an adapter.
void check_adapter_base(const std::filesystem::path& folder, const Checkpoint& base);

}  // namespace retrosparse
