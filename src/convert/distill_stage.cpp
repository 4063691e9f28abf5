#include <fmt/format.h>

#include "base/file.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/leftovers.h"
#include "base/progress.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors_writer.h"
#include "convert/artifacts.h"
#include "convert/stage.h"
#include "distill/distill.h"
#include "model/tensor_match.h"
#include "validate/label_rows.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;

DistillOptions distill_options(const Workspace& workspace) {
  const Recipe::Distill& recipe = workspace.recipe().distill;
  DistillOptions options;
  options.steps = recipe.steps;
  options.documents_per_step = recipe.documents_per_step;
  options.learning_rate = recipe.learning_rate;
  options.save_every = recipe.save_every;
  options.adamw.weight_decay = recipe.weight_decay;
  options.adamw.max_grad_norm = recipe.max_grad_norm;
  options.compute_dtype = workspace.options().dtype;
  return options;
}

// One pass of the dense model over this rank's documents; what a stopped run asked already is not asked again.
void ask_teacher(Workspace& workspace, const TeacherAnswers& answers, LocalWindow local) {
  const Recipe::Distill& recipe = workspace.recipe().distill;
  const int64_t documents = recipe.steps * recipe.documents_per_step, ranks = workspace.group().world_size();
  DataStream data = workspace.training_stream();
  Progress progress("ask the dense model", documents / ranks, "documents");
  const InterruptGuard guard;
  for (int64_t document = workspace.group().rank(); document < documents; document += ranks) {
    InterruptGuard::check();
    const Sample sample = data.next();
    if (!answers.has(document)) {
      answers.ask(workspace.dense_model(), document, sample, local, workspace.options().prefill_chunk);
    }
    progress.advance();
  }
  progress.finish();
}

// KL(dense || sparse) a label row, on documents that are not trained on.
double held_out_kl(Workspace& workspace, const Model& model, const SparseModel& sparse) {
  const Recipe& recipe = workspace.recipe();
  const TaskSuite suite = workspace.tasks(Split::kCalibration);
  LabelScores scores;
  for (const std::string& task : recipe.calibrate.tasks) {
    for (int64_t index = 0; index < recipe.calibrate.samples; ++index) {
      InterruptGuard::check();
      const ScoredSample sample = workspace.scored_sample(suite, task, index, recipe.calibrate.rows_per_sample);
      const int64_t chunk = workspace.options().prefill_chunk;
      const at::Tensor dense = dense_label_logits(workspace.dense_model(), sample.ids, sample.labels, chunk);
      PrefilledSample prefilled(model, sparse, sample.ids, sample.labels, chunk);
      scores.add(score_rows(prefilled.with_selection(sparse.selection), sample.labels.targets, dense));
    }
  }
  return scores.kl / static_cast<double>(scores.rows);
}

}  // namespace

void run_distill(Workspace& workspace) {
  const Recipe& recipe = workspace.recipe();
  const fs::path folder = workspace.folder("distill");
  const ConvertedModel converted = read_calibrated_model(workspace, "calibrate");
  const SparseModel& sparse = converted.sparse;
  const TeacherAnswers answers(folder / "teacher", recipe.distill.teacher_top_k,
                               {recipe.distill.label_rows, recipe.distill.prompt_rows});
  ask_teacher(workspace, answers, sparse.plan.local);
  workspace.group().barrier();

  const Checkpoint source = Checkpoint::open(workspace.options().model);
  ModelConfig config = workspace.dense_model().config();
  ModelWeights weights = load_weights(source, config, workspace.options().device, at::kFloat);
  DataStream data = workspace.training_stream();
  if (distill(config, weights, sparse, answers, data, distill_options(workspace), workspace.group(), folder) ==
      TrainingEnd::kInterrupted) {
    throw Interrupted();
  }
  if (!workspace.group().is_main()) {
    return;
  }
  const InterruptGuard guard;
  const double before = held_out_kl(workspace, workspace.dense_model(), sparse);
  remove_leftovers(folder / "weights");
  AtomicFolder written(folder / "weights", /*replace=*/true);
  write_sharded(written.staging(), tensors_as_stored(source, config, weights), uint64_t{5} << 30);
  written.commit();
  weights = {};
  workspace.forget_converted_model();
  const double after = held_out_kl(workspace, workspace.converted_model(), sparse);

  Report report = workspace.empty_report();
  Report::Distillation& distillation = report.distill.emplace();
  for (const JsonObject& line : JsonObject::read_lines(folder / "metrics.jsonl")) {
    distillation.steps.push_back({.step = line.get<int64_t>("step"),
                                  .loss = line.get<double>("loss"),
                                  .learning_rate = line.get<double>("learning_rate")});
  }
  distillation.held_out_kl_before = before;
  distillation.held_out_kl_after = after;
  write_results(report, folder / "results.json");
}

}  // namespace retrosparse
