#include "plan/conversion.h"

#include <algorithm>
#include <cmath>

#include "plan/cost.h"
#include "plan/memory.h"
#include "plan/stage_builder.h"
#include "plan/work.h"

namespace retrosparse {
namespace {

double as_double(int64_t value) {
  return static_cast<double>(value);
}

// The tokens that a row picks at most by the paper's rule: no more are known before it is measured.
double paper_picks(const ConversionPlan& plan) {
  return as_double(plan.recipe.context_length);
}

double context(const ConversionPlan& plan) {
  return as_double(plan.recipe.context_length);
}

double chunk(const ConversionPlan& plan) {
  return std::min(context(plan), as_double(plan.prefill_chunk));
}

// One document or sample in chunks through a cache.
Effort prefill(const ConversionPlan& plan, bool all_dense) {
  return forward_effort(plan, context(plan), chunk(plan), all_dense);
}

// What prefill holds beside its cache: the larger of its two moments.
void may_peak_in_prefill(StageBuilder& stage, const ConversionPlan& plan, const Moment& cache, HeadsAttend heads) {
  const bool several_chunks = context(plan) > chunk(plan);
  stage.may_peak_at(attention_memory(plan, chunk(plan), heads, several_chunks).add(cache));
  stage.may_peak_at(feed_forward_memory(plan, chunk(plan)).add(cache));
}

// Models that recalibration and validation hold: after stage 2 the dense one and the trained one.
int models_at_the_end(const ConversionPlan& plan) {
  return plan.recipe.distill.steps > 0 ? 2 : 1;
}

StageCost plan_profile(const ConversionPlan& plan) {
  StageBuilder stage("profile", plan);
  stage.holds_models(1).multiplies(1);
  const double documents = as_double(plan.recipe.profile.documents);
  stage.reads(documents * context(plan)).runs(documents, prefill(plan, /*all_dense=*/true));
  may_peak_in_prefill(stage, plan, cache_memory(plan, context(plan), /*index=*/false), HeadsAttend::kDense);
  return stage.build();
}

StageCost plan_train(const ConversionPlan& plan) {
  constexpr double kMeasuredDocuments = 9, kMeasuredRows = 512;  // of train_stage.cpp, before and after
  const Recipe::Train& train = plan.recipe.train;
  StageBuilder stage("train", plan);
  stage.holds_models(1).multiplies();
  const double documents = as_double(train.steps * train.documents_per_step);
  const double measured = 2 * kMeasuredDocuments;
  const auto pass = [&](bool dense) { return forward_effort(plan, context(plan), context(plan), dense); };
  stage.reads((documents + measured) * context(plan));
  stage.runs(documents, pass(train.dense_backbone) + index_loss_effort(plan, as_double(train.rows_per_document), true));
  stage.runs(measured, pass(false) + index_loss_effort(plan, kMeasuredRows, false));
  const HeadsAttend heads = train.dense_backbone ? HeadsAttend::kDense : HeadsAttend::kAsPlanned;
  const Moment attention = attention_memory(plan, context(plan), heads, /*has_cache=*/false);
  Moment before = attention;
  before.terms.pop_back();  // the index is taught before the layer's attention runs
  const auto loss = [&](double rows, bool with_gradients) {
    Moment moment = index_loss_memory(plan, rows, with_gradients);
    return moment.add(before);
  };
  stage.may_peak_at(attention)
      .may_peak_at(feed_forward_memory(plan, context(plan)))
      .may_peak_at(loss(kMeasuredRows, false));
  if (train.steps > 0) {
    stage.may_peak_at(loss(as_double(train.rows_per_document), true));
  }
  return stage.build();
}

// The settings that one call of measure_selections() runs, and how often samples are prefilled for all of them.
struct CalibrationRuns {
  double prefills = 0, tile_prefills = 0, selections = 0;
};

CalibrationRuns calibration_runs(const ConversionPlan& plan) {
  // Four top_k with their oracles, the recipe's own, with and without its tail; the paper's two run besides.
  const double rivals = 8 + 1 + (plan.recipe.selection.tail_block > 0 ? 1 : 0);
  const Recipe::Calibrate& calibrate = plan.recipe.calibrate;
  CalibrationRuns runs;
  if (!calibrate.enabled) {
    return runs;
  }
  runs = {1, 0, rivals};
  if (plan.recipe.selection.rule == SelectionRule::kTopP) {
    double grid = 0;
    for (const int64_t cap : calibrate.max_tokens) {
      grid += as_double(std::ranges::count_if(calibrate.min_tokens, [&](int64_t floor) { return floor <= cap; }));
    }
    const double heads = total(layer_heads(plan)).heads;
    runs.prefills += 1 + 2 * as_double(calibrate.head_rounds);
    runs.selections +=
        grid * as_double(static_cast<int64_t>(calibrate.p.size())) + 2 * heads * as_double(calibrate.head_rounds);
  }
  if (plan.recipe.prefill.mode == RecipePrefill::kTiles) {
    runs.prefills += 1 + 2 * as_double(calibrate.tile_head_rounds);
    runs.tile_prefills = as_double(static_cast<int64_t>(calibrate.tile_shares.size())) +
                         2 * total(layer_heads(plan)).heads * as_double(calibrate.tile_head_rounds);
  }
  return runs;
}

// What the tiles of a prompt cost is predicted as if the kernels chose and read them.
std::string caveat_of_tiles(const ConversionPlan& plan) {
  const Recipe& recipe = plan.recipe;
  const bool by_kernels = recipe.selection.tail_block == 0 && recipe.index.index_dim == 16;
  return recipe.prefill.mode != RecipePrefill::kTiles || by_kernels
             ? ""
             : "; prompts by tiles with a tail, or an index of other than 16 numbers, take several times this on a GPU";
}

double calibration_samples(const ConversionPlan& plan) {
  return as_double(static_cast<int64_t>(plan.recipe.calibrate.tasks.size()) * plan.recipe.calibrate.samples);
}

double picks(const ConversionPlan& plan) {
  return as_double(plan.recipe.selection.gate.max_tokens);
}

// Rows that run for `label_rows` of them: all from the first to the last. The most are between those of key-value
// lines, where 9 of 20.5 tokens are an answer (src/tasks, the tokenizers of nano and mini); other tasks have fewer
// rows.
double rows_with_those_between(const ConversionPlan& plan, double label_rows) {
  constexpr double kRowsOfAnswerRow = 20.5 / 9;
  return std::min(std::ceil(label_rows * kRowsOfAnswerRow), context(plan));
}

// A sample whose label rows run again and again.
void may_peak_at_label_rows(StageBuilder& stage, const ConversionPlan& plan, double rows, int kept_scores) {
  const Moment cache = cache_memory(plan, context(plan), /*index=*/true);
  may_peak_in_prefill(stage, plan, cache, HeadsAttend::kAsPlanned);
  const double most = scores_at_once(plan), run = rows_with_those_between(plan, rows);
  stage.may_peak_at(selection_memory(plan, run, most, /*paper=*/true).add(cache));
  stage.may_peak_at(tail_memory(plan, run, most).add(cache));
  if (plan.recipe.prefill.mode == RecipePrefill::kTiles) {
    stage.may_peak_at(tile_memory(plan).add(cache));
  }
  stage.may_peak_at(score_memory(plan, rows, kept_scores).add(cache));
}

StageCost plan_calibration(const std::string& name, const ConversionPlan& plan) {
  StageBuilder stage(name, plan);
  stage.holds_models(name == "recalibrate" ? 2 : 1).multiplies();
  const CalibrationRuns runs = calibration_runs(plan);
  if (runs.prefills == 0) {
    return stage.build();
  }
  const double samples = calibration_samples(plan), rows = as_double(plan.recipe.calibrate.rows_per_sample);
  stage.reads(samples * (runs.prefills + runs.tile_prefills) * context(plan));
  stage.runs(samples * (runs.prefills + runs.tile_prefills), prefill(plan, false));
  stage.runs(samples * runs.prefills, label_rows_effort(plan, rows, 0, false));
  stage.runs(samples * runs.selections, label_rows_effort(plan, rows, picks(plan), false));
  stage.runs(samples * 2, label_rows_effort(plan, rows, paper_picks(plan), true));
  may_peak_at_label_rows(stage, plan, rows, /*kept_scores=*/2);
  stage.depends_on(
      "label rows of a task, up to rows_per_sample; rounds of single heads, up to head_rounds and tile_head_rounds" +
      caveat_of_tiles(plan));
  return stage.build();
}

StageCost plan_distill(const ConversionPlan& plan) {
  const Recipe::Distill& distill = plan.recipe.distill;
  const double parameters = count_parameters(plan.config).total();
  const double documents = as_double(distill.steps * distill.documents_per_step);
  const double rows = as_double(distill.label_rows);
  StageBuilder stage("distill", plan);
  stage.holds_models(1).multiplies();
  stage.holds("the checkpoint, mapped", plan.machine.is_cpu ? 2 * parameters : 0);
  // The dense model's answers, its pass over each document; training; samples measured before and after.
  const double samples = 2 * calibration_samples(plan);
  stage.reads((2 * documents + 2 * samples) * context(plan));
  stage.runs(documents + samples, prefill(plan, true) + label_rows_effort(plan, rows, 0, false));
  stage.runs(documents, distill_effort(plan, context(plan), rows));
  stage.runs(as_double(distill.steps), optimizer_effort(plan));
  stage.runs(samples, prefill(plan, false) + label_rows_effort(plan, as_double(plan.recipe.calibrate.rows_per_sample),
                                                               picks(plan), false));

  Moment optimizer{"training", {}};
  optimizer.add("weights, gradients and both moments of AdamW, float32", 4 * 4 * parameters);
  const double sparse_rows = rows_with_those_between(plan, rows);
  const double learned_rows = std::min(rows + as_double(distill.prompt_rows), context(plan));
  Moment graph = graph_memory(plan, context(plan), sparse_rows, learned_rows);
  graph.add("weights once more in the dtype of the pass", plan.element_size < 4 ? weight_bytes(plan) : 0);
  stage.may_peak_at(graph.add(optimizer));
  Moment choosing =
      selection_memory(plan, sparse_rows, scores_at_once(plan), plan.recipe.selection.rule == SelectionRule::kPaper);
  // The graph of the layers before, when the fullest layer, at the latest the last one, chooses.
  Moment kept = graph_memory(plan, context(plan), sparse_rows, /*learned_rows=*/0);
  kept.terms.pop_back();  // no gradients are on their way yet
  choosing.add(kept).add(optimizer);
  choosing.add("weights once more in the dtype of the pass", plan.element_size < 4 ? weight_bytes(plan) : 0);
  stage.may_peak_at(choosing);
  const Moment cache = cache_memory(plan, context(plan), false);
  may_peak_in_prefill(stage, plan, cache, HeadsAttend::kDense);
  stage.may_peak_at(answer_memory(plan, learned_rows).add(cache));
  stage.depends_on("label rows of a document, up to label_rows");
  return stage.build();
}

StageCost plan_export(const ConversionPlan& plan) {
  const double bytes = weight_bytes(plan);
  StageBuilder stage("export", plan);
  stage.holds_models(models_at_the_end(plan)).multiplies();
  // The checkpoint is written as it came, from the mapped file, or, where stage 2 changed it, tensor by tensor in the
  // checkpoint's own dtype: 2 bytes where it differs from ours.
  const bool trained = plan.recipe.distill.steps > 0;
  stage.may_peak_at(Moment{"writing", {}}.add(
      "the checkpoint's tensors",
      trained ? (plan.element_size == 4 ? bytes / 2 : 0) : (plan.machine.is_cpu ? bytes * 2 / plan.element_size : 0)));
  return stage.runs(1, {.bytes = 2 * bytes}).build();
}

StageCost plan_validate(const ConversionPlan& plan) {
  const Recipe::Validate& validate = plan.recipe.validate;
  const bool tiles = plan.recipe.prefill.mode == RecipePrefill::kTiles;
  const double samples = as_double(static_cast<int64_t>(validate.tasks.size()) * validate.samples);
  const double rows = as_double(validate.rows_per_sample);
  StageBuilder stage("validate", plan);
  stage.holds_models(models_at_the_end(plan)).multiplies();
  stage.reads(samples * (tiles ? 3 : 2) * context(plan));
  stage.runs(samples, prefill(plan, true)).runs(samples * (tiles ? 2 : 1), prefill(plan, false));
  stage.runs(samples * 2, label_rows_effort(plan, rows, 0, false));
  stage.runs(samples, label_rows_effort(plan, rows, picks(plan), false));
  stage.runs(samples, label_rows_effort(plan, rows, paper_picks(plan), true));
  const double speed_tokens = as_double(validate.speed_tokens);
  if (speed_tokens > 0) {  // dense and converted generate, and converted once more without our kernels
    const double runs = as_double(validate.speed_runs), sparse_runs = runs * (plan.machine.has_own_kernels ? 2 : 1);
    stage.reads((runs + sparse_runs) * context(plan));
    stage.runs(runs, prefill(plan, true)).runs(sparse_runs, prefill(plan, false));
    stage.runs(runs * speed_tokens, label_rows_effort(plan, 1, 0, false));
    stage.runs(sparse_runs * speed_tokens, label_rows_effort(plan, 1, picks(plan), false));
  }
  if (tiles) {  // a second cache, of the sample prefilled by tiles
    const Moment second = cache_memory(plan, context(plan), /*index=*/true);
    stage.holds("cache of the same sample prefilled by tiles", second.bytes());
  }
  may_peak_at_label_rows(stage, plan, rows, /*kept_scores=*/3);
  stage.depends_on("label rows of a task, up to rows_per_sample; what the paper's rule picks, up to the context" +
                   caveat_of_tiles(plan));
  return stage.build();
}

StageCost plan_report(const ConversionPlan& plan) {
  return StageBuilder("report", plan).holds_models(models_at_the_end(plan)).multiplies().build();
}

}  // namespace

std::vector<StageCost> plan_conversion(const ConversionPlan& plan) {
  const bool has_stage_2 = plan.recipe.distill.steps > 0;
  std::vector<StageCost> stages = {plan_profile(plan), plan_train(plan), plan_calibration("calibrate", plan)};
  if (has_stage_2) {
    stages.push_back(plan_distill(plan));
    stages.push_back(plan_calibration("recalibrate", plan));
  }
  stages.push_back(plan_export(plan));
  stages.push_back(plan_validate(plan));
  stages.push_back(plan_report(plan));
  return stages;
}

}  // namespace retrosparse
