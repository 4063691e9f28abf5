#pragma once
#include <filesystem>

#include "convert/workspace.h"
#include "export/settings_json.h"
#include "report/report.h"
#include "sparse/head_plan.h"

namespace retrosparse {

/// What a stage measured is written as a report with that stage's section alone, so that the report stage only has to
/// put them together.
void write_results(const Report& report, const std::filesystem::path& path);
Report read_results(const std::filesystem::path& path);

/// The plan that the profile stage chose, from profile/head_plan.json.
HeadPlan read_head_plan(const Workspace& workspace);

/// The plan with the trained index (train/indexer.safetensors), selecting as the recipe says; on the workspace's
/// device.
ConvertedModel read_trained_model(const Workspace& workspace);

/// The same with the settings that calibration (`stage`: calibrate or recalibrate; default: the last one) chose.
ConvertedModel read_calibrated_model(const Workspace& workspace, const std::string& stage);
ConvertedModel read_calibrated_model(const Workspace& workspace);

/// The stage whose calibration counts in the end: after stage 2, where there is one, the second.
std::string final_calibration(const Recipe& recipe);

/// gates.json: {"retrosparse": the settings as config.json of the exported checkpoint has them}.
void write_gates(const ConvertedModel& model, const std::filesystem::path& path);

}  // namespace retrosparse
