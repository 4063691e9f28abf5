#include <algorithm>
#include <cmath>

#include "base/interrupt.h"
#include "base/progress.h"
#include "convert/artifacts.h"
#include "convert/measure_speed.h"
#include "convert/stage.h"
#include "plan/cost.h"
#include "validate/label_rows.h"

namespace retrosparse {
namespace {

// One of the compared models, over samples.
struct Sums {
  LabelScores against_dense, against_plan;  // the same rows, with KL to the one or to the other
  HeadCounts counts;
  TileCounts tiles;  // of the prompts

  void add(const at::Tensor& logits, const std::vector<int64_t>& targets, const at::Tensor& dense,
           const at::Tensor& plan) {
    against_dense.add(score_rows(logits, targets, dense));
    against_plan.add(score_rows(logits, targets, plan));
  }

  void add(const Sums& other) {
    against_dense.add(other.against_dense);
    against_plan.add(other.against_plan);
    retrosparse::add(counts, other.counts);
    tiles.add(other.tiles);
  }

  double per_row(double sum) const { return sum / static_cast<double>(against_dense.rows); }
  double accuracy() const { return per_row(static_cast<double>(against_dense.correct)); }

  // Of a retrieval head and row; nothing where nothing picks.
  std::optional<double> far_tokens() const {
    const SelectionCounts picked = total(counts);
    return picked.rows > 0 ? std::optional(picked.mean()) : std::nullopt;
  }

  std::optional<double> far_available() const {
    const SelectionCounts picked = total(counts);
    return picked.rows > 0 ? std::optional(static_cast<double>(picked.far_available) / static_cast<double>(picked.rows))
                           : std::nullopt;
  }
};

using VariantSums = Report::Variants<Sums>;

void add_sample(Workspace& workspace, const SparseModel& sparse, const SelectionSettings& paper,
                const ScoredSample& sample, VariantSums& sums) {
  const int64_t chunk = workspace.options().prefill_chunk;
  const std::vector<int64_t>& targets = sample.labels.targets;
  const at::Tensor dense = dense_label_logits(workspace.dense_model(), sample.ids, sample.labels, chunk);
  PrefilledSample prefilled(workspace.converted_model(), sparse, sample.ids, sample.labels, chunk);
  const at::Tensor plan = prefilled.with_dense_retrieval();
  sums.dense.add(dense, targets, dense, plan);
  sums.plan.add(plan, targets, dense, plan);
  sums.paper.add(prefilled.with_selection(paper, &sums.paper.counts), targets, dense, plan);
  std::optional<PrefilledSample> by_tiles;
  if (sparse.prefill.mode == PrefillMode::kTiles) {
    by_tiles.emplace(workspace.converted_model(), sparse, sample.ids, sample.labels, chunk, sparse.prefill);
    sums.sparse.tiles.add(by_tiles->prompt_tiles());
  }
  sums.sparse.add((by_tiles ? *by_tiles : prefilled).with_selection(sparse.selection, &sums.sparse.counts), targets,
                  dense, plan);
}

// Bytes of the caches of one sequence: every layer's own groups, not an expectation.
struct CacheBytes {
  double dense = 0, sparse = 0, index = 0, tail = 0;
};
CacheBytes cache_bytes(const Workspace& workspace, const SparseModel& sparse) {
  const ModelConfig& config = workspace.config();
  const double size = static_cast<double>(c10::elementSize(workspace.options().dtype));
  const auto tokens = static_cast<double>(workspace.recipe().context_length);
  AttentionShape shape = dense_shape(config);
  CacheBytes bytes;
  bytes.dense = kv_cache_bytes(config, shape, tokens, size);
  const double all_groups = shape.full_groups;
  shape.full_groups = 0;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    shape.full_groups += static_cast<double>(sparse.plan.groups(layer).size());
  }
  shape.local_groups = all_groups - shape.full_groups;
  shape.near_tokens = static_cast<double>(sparse.plan.local.window + sparse.plan.local.sink_tokens);
  shape.index_dim = static_cast<double>(sparse.indexer.index_dim);
  bytes.sparse = kv_cache_bytes(config, shape, tokens, size);
  bytes.index = index_cache_bytes(shape, tokens, sizeof(float));
  if (const int64_t block = sparse.selection.tail_block; block > 0) {
    bytes.tail =
        shape.full_groups * tokens / static_cast<double>(block) * static_cast<double>(config.head_dim) * sizeof(float);
  }
  return bytes;
}

// Tasks count equally in the mean accuracy, whatever rows they have; running text is not a task.
Report::Measurement measured(const Sums& all, const std::vector<double>& accuracies, const std::optional<double>& nll) {
  Report::Measurement result;
  for (const double accuracy : accuracies) {
    result.accuracy = result.accuracy.value_or(0) + accuracy / static_cast<double>(accuracies.size());
  }
  result.nll = nll;
  result.kl_dense = all.per_row(all.against_dense.kl);
  result.kl_plan = all.per_row(all.against_plan.kl);
  result.far_tokens = all.far_tokens();
  result.far_available = all.far_available();
  if (all.tiles.far > 0) {
    result.tile_density = all.tiles.density();
  }
  return result;
}

}  // namespace

void run_validate(Workspace& workspace) {
  if (!workspace.group().is_main()) {
    return;
  }
  const Recipe& recipe = workspace.recipe();
  const ConvertedModel converted = read_calibrated_model(workspace);
  const SparseModel& sparse = converted.sparse;
  const SelectionSettings paper =
      SelectionSettings::uniform(sparse.plan, SelectionRule::kPaper, {recipe.validate.paper_p, 0, 1});
  const TaskSuite suite = workspace.tasks(Split::kValidation);
  const auto is_running_text = [&](const std::string& task) {
    return std::holds_alternative<RunningTextTask>(suite.formats().task(task));
  };

  Report report = workspace.empty_report();
  Report::Validation& validation = report.validation.emplace();
  VariantSums all;
  Report::Variants<std::vector<double>> accuracies;
  Report::Variants<std::optional<double>> nll;
  const auto for_variants = [](auto&& work, auto&... variants) {
    work((variants.dense)...);
    work((variants.plan)...);
    work((variants.sparse)...);
    work((variants.paper)...);
  };
  Progress progress("validate", static_cast<int64_t>(recipe.validate.tasks.size()) * recipe.validate.samples,
                    "samples");
  for (const std::string& task : recipe.validate.tasks) {
    VariantSums sums;
    for (int64_t index = 0; index < recipe.validate.samples; ++index) {
      InterruptGuard::check();
      add_sample(workspace, sparse, paper, workspace.scored_sample(suite, task, index, recipe.validate.rows_per_sample),
                 sums);
      progress.advance();
    }
    for_variants([](Sums& total, const Sums& part) { total.add(part); }, all, sums);
    if (is_running_text(task)) {
      for_variants([](std::optional<double>& value, const Sums& part) { value = part.per_row(part.against_dense.nll); },
                   nll, sums);
      continue;
    }
    for_variants([](std::vector<double>& values, const Sums& part) { values.push_back(part.accuracy()); }, accuracies,
                 sums);
    Report::TaskResult& result = validation.tasks.emplace_back();
    result.task = task;
    result.length = recipe.context_length;
    result.samples = recipe.validate.samples;
    result.rows = sums.dense.against_dense.rows;
    for_variants(
        [](std::optional<double>& accuracy, std::optional<double>& kl, std::optional<double>& far_tokens,
           const Sums& part) {
          accuracy = part.accuracy();
          kl = part.per_row(part.against_plan.kl);
          far_tokens = part.far_tokens();
        },
        result.accuracy, result.kl_plan, result.far_tokens, sums);
  }
  progress.finish();
  validation.samples = static_cast<int64_t>(recipe.validate.tasks.size()) * recipe.validate.samples;
  validation.rows = all.dense.against_dense.rows;
  for_variants(
      [](std::optional<Report::Measurement>& measurement, const Sums& sums, const std::vector<double>& of_tasks,
         const std::optional<double>& of_text) { measurement = measured(sums, of_tasks, of_text); },
      validation.variants, all, accuracies, nll);
  const CacheBytes bytes = cache_bytes(workspace, sparse);
  for_variants([&](std::optional<Report::Measurement>& measurement) { measurement->kv_bytes = bytes.sparse; },
               validation.variants);
  validation.variants.dense->kv_bytes = bytes.dense;
  validation.variants.sparse->index_bytes = bytes.index + bytes.tail;
  validation.variants.paper->index_bytes = bytes.index;
  if (recipe.validate.speed_tokens > 0) {
    measure_speed(workspace, sparse, workspace.scored_sample(suite, recipe.validate.tasks.front(), 0, 1).ids,
                  validation);
  }
  write_results(report, workspace.folder("validate") / "results.json");
}

}  // namespace retrosparse
