#pragma once
#include <limits>

#include "recipe/recipe.h"

namespace retrosparse {

/// What a number may be, both ends included.
template <typename T>
struct Limits {
  T low = std::numeric_limits<T>::lowest(), high = std::numeric_limits<T>::max();
};

constexpr Limits<int64_t> at_least(int64_t low) {
  return {low, int64_t{1} << 40};
}

/// Just above 0 for bounds that exclude it.
constexpr double kAboveZero = std::numeric_limits<double>::min();
constexpr Limits<double> kPositive{kAboveZero, 1e30};
constexpr Limits<double> kShare{0, 1}, kPositiveShare{1e-6, 1};

/// Declares every setting of a recipe, once: `fields` is a reader, a writer or a documenter with
///   value(key, T&, meaning [, Limits<T>])          T: bool, int64_t, uint64_t, double, std::string, vectors of these
///   choice(key, Enum&, {{"name", value}, ...}, meaning)
///   section(key, meaning, [&] { ... })             a mapping
///   list(key, std::vector<Item>&, meaning, [&](Item&) { ... })
template <typename Fields>
void visit(Fields& fields, Recipe& recipe) {
  fields.value("context_length", recipe.context_length, "tokens of a document, in every stage", at_least(2));
  fields.value("seed", recipe.seed, "other documents, rows and noise");

  fields.section("data", "what is trained and measured with", [&] {
    Recipe::Data& data = recipe.data;
    fields.list("sources", data.sources, "running text", [&](Recipe::Source& source) {
      fields.value("name", source.name, "for messages, and a seed of its samples besides `seed`");
      fields.value("files", source.files,
                   "files or folders: .txt (NUL between documents), .jsonl (`text`, or `prompt` and `response`), each "
                   "also .gz, .xz or .zst; relative to the recipe");
      fields.value("weight", source.weight, "share of the training samples", kPositive);
    });
    fields.choice(
        "sampling", data.sampling, {{"crops", TextSampling::kCrops}, {"packed", TextSampling::kPacked}},
        "`crops`: from random places; `packed`: every document once before any is seen again, as it always is "
        "where documents have responses");
    fields.value("tasks", data.tasks, "synthetic retrieval tasks to train on besides (`retrosparse tasks` shows them)");
    fields.value("tasks_weight", data.tasks_weight, "their share of the training samples, beside the sources'",
                 kPositive);
    fields.value("held_out_share", data.held_out_share,
                 "share of the documents that are kept from training: every other one to calibrate with, the rest to "
                 "validate with",
                 kShare);
    fields.value("held_out_documents", data.held_out_documents,
                 "or this many documents, for collections of few and long ones", at_least(0));
    fields.value("task_formats", data.task_formats,
                 "a task file of your own, like configs/tasks/retrieval.yaml; relative to the recipe");
  });

  fields.section("plan", "which heads retrieve, and what the others see", [&] {
    Recipe::Plan& plan = recipe.plan;
    fields.value("window", plan.window, "latest tokens that local heads see", at_least(1));
    fields.value("sink_tokens", plan.sink_tokens, "first tokens that they see besides", at_least(0));
    fields.value("ratio", plan.ratio, "share of all query heads that retrieve; one at least", kPositiveShare);
    fields.choice("policy", plan.policy, {{"query_head", HeadPolicy::kQueryHead}, {"kv_group", HeadPolicy::kKvGroup}},
                  "`query_head`: the best heads; `kv_group`: whole groups, whose full KV cache one head keeps anyway");
  });

  fields.section("profile", "how the heads are scored", [&] {
    fields.value("documents", recipe.profile.documents, "documents, each with a needle of its own", at_least(1));
  });

  fields.section("index", "by which retrieval heads pick tokens", [&] {
    Recipe::Index& index = recipe.index;
    fields.value("index_dim", index.index_dim, "numbers for each token and KV group", Limits<int64_t>{2, 256});
    fields.choice("initialization", index.initialization,
                  {{"rope", IndexInitialization::kRope}, {"random", IndexInitialization::kRandom}},
                  "`rope`: the slowest rotary pairs of the model; `random`: as a linear layer");
    fields.value("noise", index.noise, "spread of the noise on `rope`", Limits<double>{0, 10});
  });

  fields.section("train", "stage 1: the index learns the attention", [&] {
    Recipe::Train& train = recipe.train;
    fields.value("steps", train.steps, "0: training-free, the index stays as it starts", at_least(0));
    fields.value("learning_rate", train.learning_rate.peak, "of AdamW, after the warm-up", kPositive);
    fields.value("warmup", train.learning_rate.warmup, "steps of a linear rise", at_least(0));
    fields.choice("schedule", train.learning_rate.schedule,
                  {{"constant", Schedule::kConstant}, {"linear", Schedule::kLinear}, {"cosine", Schedule::kCosine}},
                  "of the learning rate after the warm-up: `linear` and `cosine` fall to 0");
    fields.value("documents_per_step", train.documents_per_step, "on all processes together", at_least(1));
    fields.value("rows_per_document", train.rows_per_document,
                 "whose attention is learned, up to half of them rows that answer", at_least(1));
    fields.choice("kl", train.kl, {{"far", IndexTarget::kFar}, {"full", IndexTarget::kFull}},
                  "`far`: over the keys beyond window and sinks; `full`: over all, as in the paper");
    fields.value("dense_backbone", train.dense_backbone, "run the frozen model dense instead of by the plan");
    fields.value("weight_decay", train.weight_decay, "of AdamW", Limits<double>{0, 10});
    fields.value("max_grad_norm", train.max_grad_norm, "gradients are clipped to", kPositive);
    fields.value("save_every", train.save_every, "steps between two saved states", at_least(1));
  });

  fields.section(
      "selection", "how retrieval heads pick far tokens; calibration replaces p, min_tokens and max_tokens of `top_p`",
      [&] {
        Recipe::Selection& selection = recipe.selection;
        fields.choice(
            "rule", selection.rule,
            {{"top_p", SelectionRule::kTopP}, {"top_k", SelectionRule::kTopK}, {"paper", SelectionRule::kPaper}},
            "`top_p`: by the gate, with floor and cap; `top_k`: max_tokens; `paper`: plain top-p over all keys");
        fields.value("p", selection.gate.p, "share of the attention to cover", Limits<double>{kAboveZero, 0.999999});
        fields.value("min_tokens", selection.gate.min_tokens, "far tokens at least", at_least(0));
        fields.value("max_tokens", selection.gate.max_tokens, "far tokens at most", at_least(1));
        fields.value(
            "tail_block", selection.tail_block,
            "far tokens that are not picked, or outside the tiles of prefill, count with the index's mass and the "
            "mean value of their block of so many tokens, at most the window; 0: they do not, as in the paper",
            at_least(0));
      });

  fields.section("prefill", "how retrieval heads read the prompt", [&] {
    fields.choice("mode", recipe.prefill.mode, {{"dense", RecipePrefill::kDense}, {"tiles", RecipePrefill::kTiles}},
                  "`dense`: every key; `tiles`: those tiles in which the index expects something");
    fields.value("tile_share", recipe.prefill.tile_share, "least share of a row's attention that makes a tile count",
                 Limits<double>{kAboveZero, 1});
  });

  fields.section("calibrate", "how much has to be picked for a given loss", [&] {
    Recipe::Calibrate& calibrate = recipe.calibrate;
    fields.value("enabled", calibrate.enabled, "false: selection and prefill stay as given");
    fields.value("tasks", calibrate.tasks, "whose answers are the rows");
    fields.value("samples", calibrate.samples, "of each task", at_least(1));
    fields.value("rows_per_sample", calibrate.rows_per_sample, "answer rows that count: the last ones", at_least(1));
    fields.value("kl_target", calibrate.kl_target, "nats a row, against dense retrieval heads", kPositive);
    fields.value("p", calibrate.p, "to try", Limits<double>{kAboveZero, 0.999999});
    fields.value("min_tokens", calibrate.min_tokens, "to try", at_least(0));
    fields.value("max_tokens", calibrate.max_tokens, "to try", at_least(1));
    fields.value("head_rounds", calibrate.head_rounds, "times that single heads are tried with less", at_least(0));
    fields.value("tile_kl_target", calibrate.tile_kl_target, "nats a row, for prefill by tiles", kPositive);
    fields.value("tile_shares", calibrate.tile_shares, "to try", Limits<double>{kAboveZero, 1});
    fields.value("tile_head_rounds", calibrate.tile_head_rounds,
                 "times that single heads are tried with twice the share; two prefills a head, sample and round",
                 at_least(0));
  });

  fields.section("distill", "stage 2: the model learns to live with the sparse attention", [&] {
    Recipe::Distill& distill = recipe.distill;
    fields.value("steps", distill.steps, "0: the weights stay as they are", at_least(0));
    fields.value("learning_rate", distill.learning_rate.peak, "of AdamW, after the warm-up", kPositive);
    fields.value("warmup", distill.learning_rate.warmup, "steps of a linear rise", at_least(0));
    fields.choice("schedule", distill.learning_rate.schedule,
                  {{"constant", Schedule::kConstant}, {"linear", Schedule::kLinear}, {"cosine", Schedule::kCosine}},
                  "of the learning rate after the warm-up: `constant` as in the paper");
    fields.value("documents_per_step", distill.documents_per_step, "on all processes together", at_least(1));
    fields.value("label_rows", distill.label_rows, "of a document, run sparse", at_least(1));
    fields.value("prompt_rows", distill.prompt_rows,
                 "of a document, learned besides as they run in prefill: short answers alone teach little; 0: none, as "
                 "in the paper",
                 at_least(0));
    fields.value("teacher_top_k", distill.teacher_top_k, "logits of the dense model that are learned", at_least(1));
    fields.value("weight_decay", distill.weight_decay, "of AdamW", Limits<double>{0, 10});
    fields.value("max_grad_norm", distill.max_grad_norm, "gradients are clipped to", kPositive);
    fields.value("save_every", distill.save_every, "steps between two saved states", at_least(1));
  });

  fields.section("export", "what is written", [&] {
    fields.value("adapter", recipe.export_.adapter, "the index alone besides, where the weights did not change");
  });

  fields.section("validate", "what was lost", [&] {
    Recipe::Validate& validate = recipe.validate;
    fields.value("tasks", validate.tasks, "to measure");
    fields.value("samples", validate.samples, "of each task", at_least(1));
    fields.value("rows_per_sample", validate.rows_per_sample, "answer rows that count: the last ones", at_least(1));
    fields.value("paper_p", validate.paper_p, "of the paper's rule, which is measured besides",
                 Limits<double>{kAboveZero, 0.999999});
    fields.value("speed_tokens", validate.speed_tokens,
                 "to generate after a prompt that fills the rest of the context, dense and converted, to measure the "
                 "speed; 0: not measured",
                 at_least(0));
    fields.value("speed_runs", validate.speed_runs, "of which the medians count", at_least(1));
  });
}

}  // namespace retrosparse
