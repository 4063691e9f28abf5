#include <filesystem>

#include "checkpoint/checkpoint.h"
#include "convert/artifacts.h"
#include "convert/stage.h"
#include "export/export_adapter.h"
#include "export/export_model.h"

namespace retrosparse {

void run_export(Workspace& workspace) {
  if (!workspace.group().is_main()) {
    return;
  }
  const ConvertedModel converted = read_calibrated_model(workspace);
  const Checkpoint source = Checkpoint::open(workspace.options().model);
  const bool trained = workspace.recipe().distill.steps > 0;
  const ExportInput input{source, workspace.config(), converted,
                          trained ? &workspace.converted_model().weights() : nullptr};
  // What lies there is an earlier export of this conversion: the folder around it has the manifest.
  export_model(input, workspace.folder("model"), {.replace = true});
  // An adapter belongs to the weights as they came.
  if (workspace.recipe().export_.adapter && !trained) {
    export_adapter(input, workspace.folder("adapter"), /*replace=*/true);
  } else {
    std::filesystem::remove_all(workspace.folder("adapter"));
  }
}

}  // namespace retrosparse
