#include "plan/conversion.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "plan/layer_heads.h"
#include "plan/memory.h"
#include "plan/small_config.h"
#include "plan/work.h"

namespace retrosparse {
namespace {

Gpu gpu_of(double memory_bytes, double compute_capability = 9.0) {
  return {"X", memory_bytes, 4e12, 8e14, 6e13, "made up", compute_capability};
}

ConversionPlan small_plan() {
  ConversionPlan plan;
  plan.config = small_config();
  plan.config.max_position_embeddings = 1 << 20;
  plan.recipe.context_length = 32768;
  plan.recipe.plan.window = 1024;
  plan.recipe.distill.steps = 10;
  plan.element_size = 2;
  plan.machine = machine_of(gpu_of(1e12), plan.element_size);
  plan.retrieval_heads = assumed_heads(plan.config, plan.recipe.plan);
  return plan;
}

const StageCost& stage_of(const std::vector<StageCost>& stages, const std::string& name) {
  return *std::ranges::find(stages, name, &StageCost::name);
}

// Every stage at least as costly, and the given ones more so.
void expect_more(const ConversionPlan& less, const ConversionPlan& more, const std::vector<std::string>& dearer) {
  const std::vector<StageCost> before = plan_conversion(less), after = plan_conversion(more);
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_LE(before[i].tokens, after[i].tokens) << before[i].name;
    EXPECT_LE(before[i].flops, after[i].flops) << before[i].name;
    EXPECT_LE(before[i].seconds, after[i].seconds) << before[i].name;
    EXPECT_LE(before[i].peak_bytes, after[i].peak_bytes) << before[i].name;
  }
  for (const std::string& name : dearer) {
    EXPECT_LT(stage_of(before, name).flops, stage_of(after, name).flops) << name;
    EXPECT_LT(stage_of(before, name).seconds, stage_of(after, name).seconds) << name;
  }
}

TEST(Conversion, CostsMoreWithALongerContext) {
  const ConversionPlan less = small_plan();
  ConversionPlan more = less;
  more.recipe.context_length *= 2;
  expect_more(less, more, {"profile", "train", "calibrate", "distill", "recalibrate", "validate"});
}

TEST(Conversion, CostsMoreWithMoreSteps) {
  const ConversionPlan less = small_plan();
  ConversionPlan more = less;
  more.recipe.train.steps += 1;
  more.recipe.distill.steps += 1;
  expect_more(less, more, {"train", "distill"});
}

TEST(Conversion, CostsMoreWithALargerModel) {
  ConversionPlan less = small_plan();
  less.machine.launch_seconds = 0;  // a small model would wait for launches whatever its size
  for (int64_t ModelConfig::*size :
       {&ModelConfig::hidden_size, &ModelConfig::intermediate_size, &ModelConfig::head_dim}) {
    ConversionPlan more = less;
    more.config.*size *= 2;
    expect_more(less, more, {"profile", "train", "calibrate", "distill", "recalibrate", "validate"});
  }
  ConversionPlan more = less;
  more.config.num_hidden_layers *= 2;
  more.retrieval_heads.resize(static_cast<size_t>(more.config.num_hidden_layers));  // no more of them
  expect_more(less, more, {"profile", "train", "calibrate", "distill", "recalibrate", "validate"});
}

TEST(Conversion, TermsAddUpToThePeak) {
  for (const StageCost& stage : plan_conversion(small_plan())) {
    const double sum = std::accumulate(stage.terms.begin(), stage.terms.end(), 0.0,
                                       [](double total, const MemoryTerm& term) { return total + term.bytes; });
    EXPECT_DOUBLE_EQ(sum, stage.peak_bytes) << stage.name;
    EXPECT_GE(stage.peak_bytes, weight_bytes(small_plan())) << stage.name;
  }
}

TEST(Conversion, CountsTheTokensOfEachStage) {
  ConversionPlan plan = small_plan();
  plan.recipe.context_length = 1000;
  plan.recipe.profile.documents = 3;
  plan.recipe.train.steps = 5;
  plan.recipe.train.documents_per_step = 2;
  plan.recipe.calibrate.tasks = {"kv", "vt"};
  plan.recipe.calibrate.samples = 4;
  plan.recipe.calibrate.head_rounds = 0;
  plan.recipe.validate.tasks = {"kv", "vt", "mq"};
  plan.recipe.validate.samples = 2;
  plan.recipe.validate.speed_runs = 4;
  plan.recipe.distill.steps = 7;
  plan.recipe.distill.documents_per_step = 3;
  const std::vector<StageCost> stages = plan_conversion(plan);
  EXPECT_EQ(stage_of(stages, "profile").tokens, 3 * 1000);
  EXPECT_EQ(stage_of(stages, "train").tokens, (5 * 2 + 2 * 9) * 1000);        // and measured before and after
  EXPECT_EQ(stage_of(stages, "calibrate").tokens, 2 * 4 * 2 * 1000);          // once for the rivals, once for the grid
  EXPECT_EQ(stage_of(stages, "distill").tokens, (2 * 7 * 3 + 4 * 8) * 1000);  // teacher and student, measured twice
  const int64_t speeds = 3 * 4;  // dense, converted, converted without kernels
  EXPECT_EQ(stage_of(stages, "validate").tokens, (3 * 2 * 2 + speeds) * 1000);
  EXPECT_EQ(stage_of(stages, "export").tokens, 0);
  EXPECT_EQ(stage_of(stages, "report").tokens, 0);
}

TEST(Conversion, LeavesOutWhatTheRecipeDoesNotAskFor) {
  ConversionPlan plan = small_plan();
  plan.recipe.distill.steps = 0;
  plan.recipe.train.steps = 0;
  plan.recipe.calibrate.enabled = false;
  const std::vector<StageCost> stages = plan_conversion(plan);
  std::vector<std::string> names;
  for (const StageCost& stage : stages) {
    names.push_back(stage.name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"profile", "train", "calibrate", "export", "validate", "report"}));
  EXPECT_EQ(stage_of(stages, "calibrate").tokens, 0);
  EXPECT_EQ(stage_of(stages, "train").tokens, 2 * 9 * 32768);
  plan.recipe.train.steps = 1;
  EXPECT_GE(stage_of(plan_conversion(plan), "train").peak_bytes, stage_of(stages, "train").peak_bytes);
}

TEST(Conversion, TilesAreCalibratedAndValidatedBesides) {
  ConversionPlan dense = small_plan();
  ConversionPlan tiles = dense;
  tiles.recipe.prefill.mode = RecipePrefill::kTiles;
  expect_more(dense, tiles, {"calibrate", "recalibrate", "validate"});
}

// Of the settings that only take memory: which stages they show in.
TEST(Conversion, CountsWhatATailAndPromptRowsHold) {
  const ConversionPlan plain = small_plan();
  const auto dearer = [](const ConversionPlan& less, const ConversionPlan& more, const std::string& name) {
    expect_more(less, more, {});
    return stage_of(plan_conversion(more), name).peak_bytes - stage_of(plan_conversion(less), name).peak_bytes;
  };
  ConversionPlan tail = plain;
  tail.recipe.selection.tail_block = 64;
  const LayerHeads heads = total(layer_heads(plain));
  const double shares = 5 - plain.element_size;  // float32 and bool instead of a bias
  EXPECT_GE(dearer(plain, tail, "distill"),
            shares * heads.heads * static_cast<double>(plain.recipe.distill.label_rows) * 32768);
  const double means = heads.groups * 32768 / 64 * static_cast<double>(plain.config.head_dim) * 4;
  EXPECT_GE(dearer(plain, tail, "validate"), 0.99 * means);

  ConversionPlan large = plain;
  large.config.vocab_size = 100'000;  // so that scores of the vocabulary decide
  ConversionPlan prompt_rows = large;
  prompt_rows.recipe.distill.prompt_rows = 2048;
  EXPECT_GE(dearer(large, prompt_rows, "distill"), 2 * 2048.0 * 100'000 * 4);
  EXPECT_EQ(dearer(large, prompt_rows, "calibrate"), 0);
}

TEST(Conversion, ExpertsAreHeldWholeAndComputedInPart) {
  ConversionPlan plan = small_plan();
  plan.machine.launch_seconds = 0;
  plan.config.experts = ExpertsConfig{
      .num_experts = 8, .num_experts_per_tok = 2, .intermediate_size = 32, .layer_has_experts = {true, true, true}};
  ConversionPlan more_experts = plan, more_picks = plan;
  more_experts.config.experts->num_experts = 64;
  more_picks.config.experts->num_experts_per_tok = 4;
  const auto profile = [](const ConversionPlan& one) { return plan_conversion(one).front(); };
  EXPECT_GT(profile(more_experts).peak_bytes, profile(plan).peak_bytes);
  EXPECT_NEAR(profile(more_experts).flops / profile(plan).flops, 1, 0.2);  // the router alone
  EXPECT_GT(profile(more_picks).flops, profile(plan).flops);
  EXPECT_GT(profile(more_picks).peak_bytes, profile(plan).peak_bytes);
}

TEST(Conversion, SaysWhatDoesNotFit) {
  ConversionPlan plan = small_plan();
  double most = 0;
  for (const StageCost& stage : plan_conversion(plan)) {
    most = std::max(most, stage.peak_bytes);
  }
  plan.machine = machine_of(gpu_of(1.2 * most), plan.element_size);
  EXPECT_TRUE(std::ranges::all_of(plan_conversion(plan), &StageCost::fits));
  plan.machine = machine_of(gpu_of(most), plan.element_size);  // of which nine tenths may be used
  const std::vector<StageCost> stages = plan_conversion(plan);
  for (const StageCost& stage : stages) {
    EXPECT_EQ(stage.fits, stage.peak_bytes <= 0.9 * most) << stage.name;
  }
  EXPECT_FALSE(std::ranges::all_of(stages, &StageCost::fits));
}

TEST(Conversion, SmallModelsWaitForLaunches) {
  ConversionPlan plan = small_plan();
  plan.recipe.context_length = 512;
  plan.recipe.plan.window = 64;
  const StageCost profile = plan_conversion(plan).front();
  EXPECT_DOUBLE_EQ(profile.seconds, profile.launches * plan.machine.launch_seconds);
}

TEST(LayerHeads, AssumesAsManyHeadsAsTheRatioAsksFor) {
  ModelConfig config = small_config();
  config.num_hidden_layers = 5;
  config.num_attention_heads = 8;
  config.num_key_value_heads = 2;
  for (const double ratio : {0.0, 0.15, 0.5, 0.99, 1.0}) {
    int64_t count = 0;
    for (const std::vector<int64_t>& heads : assumed_heads(config, {.ratio = ratio})) {
      EXPECT_TRUE(std::ranges::is_sorted(heads));
      EXPECT_TRUE(heads.empty() || heads.back() < 8);
      count += static_cast<int64_t>(heads.size());
    }
    EXPECT_EQ(count, std::max<int64_t>(std::llround(ratio * 40), 1)) << ratio;
  }
  for (const std::vector<int64_t>& heads : assumed_heads(config, {.ratio = 0.15, .policy = HeadPolicy::kKvGroup})) {
    EXPECT_EQ(heads.size() % 4, 0);
  }
}

TEST(LayerHeads, CountsGroupsAndSetsAsPlannedAttentionMakesThem) {
  ConversionPlan plan = small_plan();
  plan.config.num_attention_heads = 8;
  plan.config.num_key_value_heads = 4;
  plan.config.num_hidden_layers = 4;
  plan.retrieval_heads = {{}, {0, 1, 2, 3, 4, 5, 6, 7}, {2, 3}, {1, 3, 4, 5}};
  const std::vector<LayerHeads> layers = layer_heads(plan);
  const auto expect = [&](size_t layer, double groups, double local_sets, double sets) {
    EXPECT_EQ(layers[layer].groups, groups) << layer;
    EXPECT_EQ(layers[layer].local_sets, local_sets) << layer;
    EXPECT_EQ(layers[layer].sets, sets) << layer;
  };
  expect(0, 0, 1, 1);  // all local: one call
  expect(1, 4, 0, 1);  // all dense
  expect(2, 1, 2, 3);  // local, dense, local: the groups on both sides are no neighbours
  expect(3, 3, 2, 4);  // one of two heads local in groups 0 and 1, none in 2, both in 3
}

}  // namespace
}  // namespace retrosparse
