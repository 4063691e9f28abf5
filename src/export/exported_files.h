#pragma once
#include <filesystem>
#include <span>
#include <string_view>

#include "base/embedded.h"

namespace retrosparse {

/// The modelling code for transformers that goes into every export: engines/transformers/*.py.
std::span<const EmbeddedFile> builtin_engine_files();

/// Whether a file of the source checkpoint goes into its export as it is: those that belong to the model whatever its
/// attention is.
bool is_copied(std::string_view name);

/// Whether an export may have written this: a file of such a name.
bool is_exported(const std::filesystem::directory_entry& entry);

/// Throws Error, naming the first, where a folder that is to be replaced or removed holds what no export writes.
void refuse_files_of_others(const std::filesystem::path& folder);

}  // namespace retrosparse
