#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>
#include <torch/version.h>

#include <chrono>

#include "base/log.h"
#include "convert/artifacts.h"
#include "convert/manifest.h"
#include "convert/prediction.h"
#include "convert/stage.h"
#include "model/weights.h"
#include "ops/kernel_use.h"
#include "report/kl_target.h"
#include "report/report_files.h"

namespace retrosparse {
namespace {

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

std::string kernels_in_use(const Workspace& workspace) {
  const ModelConfig& config = workspace.config();
  const at::Tensor query =
      at::empty({1, config.num_attention_heads, config.head_dim},
                at::TensorOptions().device(workspace.options().device).dtype(workspace.options().dtype));
  if (ops::attention_kernels_serve(query, ops::KernelUse::kAll)) {
    return "all";
  }
  return ops::attention_kernels_serve(query, ops::KernelUse::kPrefill) ? "prefill" : "off";
}

}  // namespace

void run_report(Workspace& workspace) {
  if (!workspace.group().is_main()) {
    return;
  }
  Report report = workspace.empty_report();
  report.created = utc_now();
  report.environment = {.retrosparse = RETROSPARSE_VERSION,
                        .torch = TORCH_VERSION,
                        .dtype = config_dtype_name(workspace.options().dtype),
                        .device = device_name(workspace.options().device),
                        .processes = workspace.group().world_size(),
                        .threads = at::get_num_threads(),
                        .kernels = kernels_in_use(workspace)};
  report.profile = read_results(workspace.folder("profile") / "head_plan.json").profile;
  report.train = read_results(workspace.folder("train") / "results.json").train;
  const Report calibrated = read_results(workspace.folder(final_calibration(workspace.recipe())) / "results.json");
  report.selection = calibrated.selection;
  report.prefill = calibrated.prefill;
  if (workspace.recipe().distill.steps > 0) {
    report.distill = read_results(workspace.folder("distill") / "results.json").distill;
  }
  report.validation = read_results(workspace.folder("validate") / "results.json").validation;
  const Manifest manifest(workspace.options().out);
  for (const Stage& stage : conversion_stages()) {
    if (const auto record = manifest.find(stage.name);
        record && record->state == StageRecord::State::kDone && stage.is_wanted(workspace.recipe())) {
      report.stages.push_back({.name = stage.name,
                               .seconds = record->seconds,
                               .predicted_seconds = record->predicted_seconds,
                               .peak_bytes = record->peak_bytes,
                               .predicted_peak_bytes = record->predicted_peak_bytes});
    }
  }
  report.recipe = workspace.recipe().to_json();
  write_report(report, workspace.folder("report"));
  if (const auto outcome = kl_target_outcome(report)) {
    log_message(outcome->met() ? LogLevel::kInfo : LogLevel::kWarning, text_of(*outcome));
  }
}

}  // namespace retrosparse
