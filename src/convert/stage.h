#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "convert/workspace.h"

namespace retrosparse {

/// One stage of a conversion. It reads and writes files below the conversion's folder, and nothing is passed on
/// otherwise: so it can be skipped, resumed or run on its own.
struct Stage {
  std::string name;
  std::string folder;                 ///< what it writes into, below the conversion's; emptied when it starts anew
  std::string summary;                ///< for --help
  std::vector<std::string> after;     ///< stages whose outputs it reads
  std::vector<std::string> settings;  ///< what it reads from the recipe: sections, or single keys
  std::vector<std::string>
      outputs;  ///< files, and folders of files, relative to the conversion's folder; there in the end
  std::vector<std::string> optional_outputs;  ///< the same, which some recipes do not ask for
  bool keeps_state = false;                   ///< an unfinished run left something to go on from
  bool swaps_folder = false;                  ///< writes the folder aside: the old one stays until the new is complete
  std::function<bool(const Recipe&)> is_wanted = [](const Recipe&) { return true; };

  /// Throws Interrupted where the user asked to stop; what is written then is enough to go on.
  std::function<void(Workspace&)> run;
};

/// All stages in the order in which `convert` runs them.
const std::vector<Stage>& conversion_stages();

// What the stages do; each in the file of its name. Files and forms are those of the project's README.
void run_profile(Workspace& workspace);
void run_train(Workspace& workspace);
void run_calibrate(Workspace& workspace);
void run_recalibrate(Workspace& workspace);
void run_distill(Workspace& workspace);
void run_export(Workspace& workspace);
/// What the export stage writes, without the adapter, to a folder of the user's choice. Error: as export_model.
void export_converted(Workspace& workspace, const std::filesystem::path& to, bool overwrite);
void run_validate(Workspace& workspace);
void run_report(Workspace& workspace);

}  // namespace retrosparse
