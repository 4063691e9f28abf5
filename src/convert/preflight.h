#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "convert/manifest.h"
#include "convert/stage.h"
#include "convert/workspace.h"

namespace retrosparse {

/// What is looked at before a stage begins. All throw Error.

/// `out` is new, empty, or the folder of an earlier conversion.
void check_out(const std::filesystem::path& out);

/// The folder is not the conversion of another model. Settings may change: then their stages run again; another model
/// has nothing in common with what is there.
void check_model(const Workspace& workspace);

/// Folders of stages that never ran here are someone else's, and would be overwritten.
void check_stage_folders(const Workspace& workspace, const std::vector<const Stage*>& stages);

/// Exported folders that will be replaced hold nothing but what an export writes: found before hours of work.
void check_exports(const Workspace& workspace, const std::vector<const Stage*>& stages);

/// What the stage needs is there, unchanged, and was made with the settings of now.
void check_predecessors(const Stage& stage, const Workspace& workspace, const Manifest& manifest);

/// Finished training of these stages is not thrown away for a setting that another recipe happens to have: only where
/// the user says so.
void check_training_is_kept(const Workspace& workspace, const std::vector<const Stage*>& stages);

/// What is thrown then: `changes` since these stages ran.
Error would_begin_anew(const std::vector<std::string>& stages, const std::vector<std::string>& changes,
                       const std::filesystem::path& out);

/// A warning where a training ends before its warm-up does.
void warn_of_warmup(const Recipe& recipe);

}  // namespace retrosparse
