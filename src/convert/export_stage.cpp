#include <filesystem>
#include <optional>

#include "base/file.h"
#include "base/leftovers.h"
#include "checkpoint/checkpoint.h"
#include "convert/artifacts.h"
#include "convert/stage.h"
#include "export/export_adapter.h"
#include "export/export_model.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;

bool is_trained(const Workspace& workspace) {
  return workspace.recipe().distill.steps > 0;
}

void write_model(Workspace& workspace, const ConvertedModel& converted, const fs::path& out, bool replace) {
  const Checkpoint source = Checkpoint::open(workspace.options().model);
  const ModelWeights* weights = is_trained(workspace) ? &workspace.converted_model().weights() : nullptr;
  export_model({source, workspace.config(), converted, weights}, out, {.replace = replace});
}

}  // namespace

void run_export(Workspace& workspace) {
  if (!workspace.group().is_main()) {
    return;
  }
  const fs::path model = workspace.folder("model"), adapter = workspace.folder("adapter");
  remove_leftovers(model);
  remove_leftovers(adapter);
  const ConvertedModel converted = read_calibrated_model(workspace);
  // What lies there is an earlier export of this conversion: run_conversion() lets nothing else pass.
  write_model(workspace, converted, model, /*replace=*/true);
  // An adapter belongs to the weights as they came.
  if (workspace.recipe().export_.adapter && !is_trained(workspace)) {
    const Checkpoint source = Checkpoint::open(workspace.options().model);
    export_adapter({source, workspace.config(), converted}, adapter, /*replace=*/true);
  } else {
    fs::remove_all(adapter);
  }
}

void export_converted(Workspace& workspace, const fs::path& to, bool overwrite) {
  write_model(workspace, read_calibrated_model(workspace), to, overwrite);
}

}  // namespace retrosparse
