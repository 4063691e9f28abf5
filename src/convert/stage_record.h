#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "convert/manifest.h"
#include "convert/stage.h"
#include "convert/workspace.h"

namespace retrosparse {

/// The stage of that name, which there is.
const Stage& stage_of(const std::string& name);

/// What would go into the stage now: its settings, the digests of all data, and those of what the stages before it
/// wrote.
StageInputs inputs_of(const Stage& stage, const Workspace& workspace, const Manifest& manifest);

/// The first file of those that a finished stage wrote, relative to `out`, that is gone or has another content now.
std::optional<std::string> damaged_output(const StageRecord& record, const std::filesystem::path& out);

/// `record` of the stage that has just run for `seconds`, with the digests of what it wrote.
StageRecord finished(const Stage& stage, StageRecord record, const Workspace& workspace, double seconds);

}  // namespace retrosparse
