#include "convert/stage.h"

namespace retrosparse {
namespace {

bool has_stage_2(const Recipe& recipe) {
  return recipe.distill.steps > 0;
}

}  // namespace

const std::vector<Stage>& conversion_stages() {
  static const std::vector<Stage> stages = {
      {.name = "profile",
       .folder = "profile",
       .summary = "find the heads that retrieve",
       .after = {},
       .settings = {"data", "plan", "profile"},
       .outputs = {"profile/head_plan.json"},
       .run = run_profile},
      {.name = "train",
       .folder = "train",
       .summary = "teach the index where the retrieval heads look",
       .after = {"profile"},
       .settings = {"data", "index", "train"},
       .outputs = {"train/indexer.safetensors", "train/metrics.jsonl", "train/results.json"},
       .keeps_state = true,
       .run = run_train},
      {.name = "calibrate",
       .folder = "calibrate",
       .summary = "find how much the retrieval heads have to pick",
       .after = {"profile", "train"},
       .settings = {"data", "selection", "prefill", "calibrate"},
       .outputs = {"calibrate/gates.json", "calibrate/results.json"},
       .run = run_calibrate},
      {.name = "distill",
       .folder = "distill",
       .summary = "teach the model to live with sparse attention",
       .after = {"profile", "train", "calibrate"},
       .settings = {"data", "calibrate.tasks", "calibrate.samples", "calibrate.rows_per_sample", "distill"},
       .outputs = {"distill/metrics.jsonl", "distill/results.json", "distill/weights"},
       .keeps_state = true,
       .is_wanted = has_stage_2,
       .run = run_distill},
      {.name = "recalibrate",
       .folder = "recalibrate",
       .summary = "find again how much has to be picked",
       .after = {"profile", "train", "distill"},
       .settings = {"data", "selection", "prefill", "calibrate"},
       .outputs = {"recalibrate/gates.json", "recalibrate/results.json"},
       .is_wanted = has_stage_2,
       .run = run_recalibrate},
      {.name = "export",
       .folder = "model",
       .summary = "write the checkpoint that engines load",
       .after = {"profile", "train", "calibrate", "distill", "recalibrate"},
       .settings = {"distill.steps", "export"},
       .outputs = {"model"},
       .optional_outputs = {"adapter"},
       .swaps_folder = true,
       .run = run_export},
      {.name = "validate",
       .folder = "validate",
       .summary = "measure what was lost",
       .after = {"profile", "train", "calibrate", "distill", "recalibrate"},
       .settings = {"data", "distill.steps", "validate"},
       .outputs = {"validate/results.json"},
       .run = run_validate},
      {.name = "report",
       .folder = "report",
       .summary = "show everything that was measured",
       .after = {"profile", "train", "calibrate", "distill", "recalibrate", "export", "validate"},
       .settings = {},
       .outputs = {"report/report.json", "report/report.html"},
       .run = run_report},
  };
  return stages;
}

}  // namespace retrosparse
