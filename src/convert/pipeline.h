#pragma once
#include <string>
#include <vector>

#include "convert/stage.h"
#include "convert/workspace.h"

namespace retrosparse {

/// How a stage went.
struct StageOutcome {
  std::string name;
  double seconds = 0;
  bool reused = false;  ///< it was done before, with the same inputs
};

/// Runs the stages of these names (all that the recipe wants, where none is named) in their order. A stage that is done
/// and whose inputs have not changed is skipped; where some have, it says which and starts anew; one that was
/// interrupted or killed goes on from its last state. What a finished stage wrote stays until it has finished again or,
/// where it keeps state, has saved some. Error: training that is finished would begin anew, no stage is named, and the
/// options do not allow it; a stage is named that the recipe does not want; one that ran before a named one had other
/// settings; a stage is named whose inputs are not there yet; out, or
/// a stage's folder in it, holds something that no conversion wrote; whatever the stages throw. Interrupted: the user
/// asked to stop.
std::vector<StageOutcome> run_conversion(Workspace& workspace, const std::vector<std::string>& names = {});

/// Exports the converted model to `to`, a folder outside of the conversion's, which stays as it is. `to` appears
/// complete or not at all; an earlier export there is replaced where `overwrite`, and stays until the new one is
/// complete. Error: the stages before the export are not done; `to` exists and is not empty.
void export_conversion(Workspace& workspace, const std::filesystem::path& to, bool overwrite);

}  // namespace retrosparse
