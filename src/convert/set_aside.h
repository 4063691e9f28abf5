#pragma once
#include <filesystem>

#include "convert/manifest.h"
#include "convert/stage.h"

namespace retrosparse {

// A finished stage that runs again with other inputs might fail at once, by a mistyped setting. Until it has something
// of its own to show, what it wrote before is kept: its folder beside the new one, its record in the manifest.

/// Moves the stage's folder away; nothing where there is none.
void set_aside(const Stage& stage, const std::filesystem::path& out, Manifest& manifest);

/// Takes it back, unless the stage keeps state and has saved some meanwhile. Also after a process was killed; nothing
/// where nothing was set aside.
void put_back(const Stage& stage, const std::filesystem::path& out, Manifest& manifest);

/// Removes it: the stage has finished.
void forget_aside(const Stage& stage, const std::filesystem::path& out, Manifest& manifest);

}  // namespace retrosparse
