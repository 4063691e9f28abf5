#include <ATen/core/grad_mode.h>

#include "base/interrupt.h"
#include "base/json.h"
#include "convert/artifacts.h"
#include "convert/stage.h"
#include "model/planned_attention.h"
#include "train/train_index.h"

namespace retrosparse {
namespace {

constexpr int64_t kMeasuredDocuments = 9;  // each of the default tasks once
constexpr int64_t kMeasuredRows = 512;

Indexer starting_index(const HeadPlan& plan, const Workspace& workspace) {
  const Recipe& recipe = workspace.recipe();
  const int64_t head_dim = workspace.config().head_dim;
  Indexer indexer = Indexer::allocate(plan, head_dim, recipe.index.index_dim, workspace.options().device);
  if (recipe.index.initialization == IndexInitialization::kRope) {
    indexer.initialize_from_rope(head_dim, recipe.index.noise, recipe.seed);
  } else {
    indexer.initialize_random(head_dim, recipe.seed);
  }
  return indexer;
}

// KL over the far keys of every retrieval head, on documents that are neither trained on nor validated with.
std::vector<IndexStatistics> measure_index(Workspace& workspace, const HeadPlan& plan, const Indexer& indexer) {
  const Recipe& recipe = workspace.recipe();
  const TaskSuite suite = workspace.tasks(Split::kCalibration);
  const std::vector<std::string>& tasks = recipe.calibrate.tasks;
  std::vector<IndexStatistics> sums;
  const at::NoGradGuard no_grad;
  PlannedAttention planned(plan.windows(), plan.num_key_value_heads, workspace.options().device);
  for (int64_t document = 0; document < kMeasuredDocuments; ++document) {
    InterruptGuard::check();
    const std::string& task = tasks[static_cast<size_t>(document) % tasks.size()];
    const TaskSample sample = suite.sample(task, recipe.context_length, /*index=*/document);
    IndexLoss loss(plan, indexer, IndexTarget::kFar,
                   sample_rows(first_far_row(plan.local), sample.length(), kMeasuredRows, recipe.seed + 1), 0);
    workspace.dense_model().forward(sample.ids, {.attention = &planned, .observers = {&loss}});
    if (sums.empty()) {
      sums = loss.statistics();
      continue;
    }
    for (size_t layer = 0; layer < sums.size(); ++layer) {
      sums[layer].weighted_kl += loss.statistics()[layer].weighted_kl;
      sums[layer].weight += loss.statistics()[layer].weight;
      sums[layer].rows += loss.statistics()[layer].rows;
    }
  }
  return sums;
}

IndexTrainingOptions training_options(const Recipe& recipe) {
  IndexTrainingOptions options;
  options.steps = recipe.train.steps;
  options.documents_per_step = recipe.train.documents_per_step;
  options.rows_per_document = recipe.train.rows_per_document;
  options.learning_rate = recipe.train.learning_rate;
  options.target = recipe.train.kl;
  options.dense_backbone = recipe.train.dense_backbone;
  options.seed = recipe.seed;
  options.save_every = recipe.train.save_every;
  options.adamw.weight_decay = recipe.train.weight_decay;
  options.adamw.max_grad_norm = recipe.train.max_grad_norm;
  return options;
}

std::vector<Report::TrainingStep> read_metrics(const std::filesystem::path& path) {
  std::vector<Report::TrainingStep> steps;
  for (const JsonObject& line : JsonObject::read_lines(path)) {
    steps.push_back({.step = line.get<int64_t>("step"),
                     .kl = line.get<double>("kl"),
                     .unweighted_kl = line.get<double>("unweighted_kl"),
                     .gate_loss = line.get<double>("gate_loss"),
                     .learning_rate = line.get<double>("learning_rate"),
                     .gradient_norm = line.get<double>("gradient_norm")});
  }
  return steps;
}

}  // namespace

void run_train(Workspace& workspace) {
  const Recipe& recipe = workspace.recipe();
  const HeadPlan plan = read_head_plan(workspace);
  const Indexer start = starting_index(plan, workspace);
  Indexer indexer = starting_index(plan, workspace);
  DataStream data = workspace.training_stream();
  const std::filesystem::path folder = workspace.folder("train");
  if (train_index(workspace.dense_model(), plan, indexer, data, training_options(recipe), workspace.group(), folder) ==
      TrainingEnd::kInterrupted) {
    throw Interrupted();
  }
  if (!workspace.group().is_main()) {
    return;
  }
  Report report = workspace.empty_report();
  Report::Training& training = report.train.emplace();
  training.target = recipe.train.kl == IndexTarget::kFar ? "far" : "full";
  training.initialization = recipe.index.initialization == IndexInitialization::kRope ? "rope" : "random";
  training.index_dim = recipe.index.index_dim;
  training.steps = read_metrics(folder / "metrics.jsonl");
  const auto before = measure_index(workspace, plan, start), after = measure_index(workspace, plan, indexer);
  for (size_t layer = 0; layer < before.size(); ++layer) {
    const IndexStatistics &start_of = before[layer], &end_of = after[layer];
    const std::vector<int64_t>& heads = plan.retrieval_heads[layer];
    for (size_t place = 0; place < heads.size(); ++place) {
      const auto at = [&](const at::Tensor& sums) { return sums[static_cast<int64_t>(place)].item<double>(); };
      training.heads.push_back({.layer = static_cast<int64_t>(layer),
                                .head = heads[place],
                                .start_kl = at(start_of.weighted_kl) / at(start_of.weight),
                                .end_kl = at(end_of.weighted_kl) / at(end_of.weight),
                                .far_mass = at(end_of.weight) / static_cast<double>(end_of.rows)});
    }
  }
  write_results(report, folder / "results.json");
}

}  // namespace retrosparse
