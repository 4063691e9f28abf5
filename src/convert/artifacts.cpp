#include "convert/artifacts.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "report/report_json.h"

namespace retrosparse {

namespace fs = std::filesystem;

void write_results(const Report& report, const fs::path& path) {
  write_atomically(path, report_json(report).dump(1) + "\n");
}

Report read_results(const fs::path& path) {
  return parse_report(JsonObject::read(path));
}

HeadPlan read_head_plan(const Workspace& workspace) {
  const fs::path path = workspace.folder("profile") / "head_plan.json";
  const Report report = read_results(path);
  if (!report.profile) {
    throw Error("no head plan").file(path.string()).key("profile");
  }
  HeadPlan plan{workspace.config().num_attention_heads,
                workspace.config().num_key_value_heads,
                {report.profile->sink_tokens, report.profile->window},
                report.profile->retrieval_heads};
  plan.check(workspace.config());
  return plan;
}

ConvertedModel read_trained_model(const Workspace& workspace) {
  const Recipe& recipe = workspace.recipe();
  ConvertedModel model;
  SparseModel& sparse = model.sparse;
  sparse.plan = read_head_plan(workspace);
  sparse.indexer =
      Indexer::allocate(sparse.plan, workspace.config().head_dim, recipe.index.index_dim, workspace.options().device);
  const SafetensorsFile file(workspace.folder("train") / "indexer.safetensors");
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, info] : file.tensors()) {
    tensors[name] = file.tensor(name);
  }
  sparse.indexer.load(tensors);
  sparse.selection = SelectionSettings::uniform(sparse.plan, recipe.selection.rule, recipe.selection.gate);
  sparse.selection.tail_block = recipe.selection.tail_block;
  model.sparse.prefill.mode = recipe.prefill.mode == RecipePrefill::kTiles ? PrefillMode::kTiles : PrefillMode::kDense;
  model.sparse.prefill.tile_share = recipe.prefill.tile_share;
  return model;
}

std::string final_calibration(const Recipe& recipe) {
  return recipe.distill.steps > 0 ? "recalibrate" : "calibrate";
}

ConvertedModel read_calibrated_model(const Workspace& workspace) {
  return read_calibrated_model(workspace, final_calibration(workspace.recipe()));
}

ConvertedModel read_calibrated_model(const Workspace& workspace, const std::string& stage) {
  ConvertedModel model = read_trained_model(workspace);
  const JsonObject gates = JsonObject::read(workspace.folder(stage) / "gates.json");
  const ConvertedModel chosen =
      parse_settings(gates.object("retrosparse"), workspace.config(), workspace.options().device);
  if (chosen.sparse.plan.retrieval_heads != model.sparse.plan.retrieval_heads) {
    throw gates.error("retrosparse.retrieval_heads", "gates of another head plan");
  }
  model.sparse.selection = chosen.sparse.selection;
  model.sparse.prefill = chosen.sparse.prefill;
  return model;
}

void write_gates(const ConvertedModel& model, const fs::path& path) {
  write_atomically(path, nlohmann::ordered_json{{"retrosparse", settings_json(model)}}.dump(2) + "\n");
}

}  // namespace retrosparse
