#pragma once
#include <filesystem>

#include "base/file.h"

namespace retrosparse {

/// The staging folder of an export. Nothing is there under `out` until commit(). Error: `out` is, or holds, the model
/// that is exported; it exists and is not empty, unless `replace`, which replaces nothing but an earlier export (a
/// folder whose config.json has the key "retrosparse", or an adapter) in which nobody put files of other names.
AtomicFolder open_output_folder(const std::filesystem::path& out, const std::filesystem::path& source, bool replace);

}  // namespace retrosparse
