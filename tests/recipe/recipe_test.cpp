#include "recipe/recipe.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/testing.h"

namespace retrosparse {
namespace {

const std::filesystem::path kSource = RETROSPARSE_SOURCE_DIR;
constexpr char kLeast[] = "data:\n  sources: [{name: a, files: [b]}]\n  held_out_documents: 2\n";

Recipe parse(const std::string& more, const std::vector<std::string>& settings = {}) {
  return Recipe::parse(kLeast + more, "r.yaml", settings);
}

TEST(Recipe, EveryBundledOneIsReadAndWrittenBackUnchanged) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kSource / "recipes")) {
    if (entry.path().extension() != ".yaml") {
      continue;
    }
    ++count;
    const Recipe recipe = Recipe::read(entry.path(), {});
    const auto json = recipe.to_json();
    EXPECT_EQ(Recipe::parse(json.dump(), entry.path(), {}).to_json(), json) << entry.path();  // JSON is YAML
    for (const Recipe::Source& source : recipe.data.sources) {
      for (const std::string& file : source.files) {
        EXPECT_TRUE(std::filesystem::exists(recipe.folder / file)) << entry.path() << ": " << file;
      }
    }
  }
  EXPECT_GE(count, 5);
}

TEST(Recipe, TakesSettingsAndLeavesDefaults) {
  const Recipe recipe = parse("train: {kl: full}\n", {"train.steps=7", "plan.policy=kv_group", "calibrate.p=[0.5]"});
  EXPECT_EQ(recipe.train.steps, 7);
  EXPECT_EQ(recipe.train.kl, IndexTarget::kFull);
  EXPECT_EQ(recipe.plan.policy, HeadPolicy::kKvGroup);
  EXPECT_EQ(recipe.calibrate.p, std::vector<double>{0.5});
  EXPECT_EQ(recipe.plan.window, 8192);
}

TEST(Recipe, RefusesWhatMakesNoSense) {
  const auto refused = [](const std::string& more, std::string_view says) {
    EXPECT_TRUE(contains(error_of([&] { parse(more); }), says));
  };
  refused("train: {step: 3}\n", "key 'train.step': unknown key (did you mean 'steps'?)");
  refused("train: {steps: -1}\n", "key 'train.steps': out of bounds: expected 0 to");
  refused("train: {steps: 1.5}\n", "train.steps");
  refused("train: {learning_rate: 0}\n", "expected a number above 0");
  refused("train: {kl: fat}\n", "did you mean 'far'");
  refused("plan: {window: 40000}\n", "nothing is beyond the window");
  refused("plan: {ratio: 1.2}\n", "plan.ratio");
  refused("index: {index_dim: 5}\n", "not even");
  refused("plan: {window: 63}\nselection: {tail_block: 64}\n", "longer than the window: expected at most 63, found 64");
  refused("selection: {rule: paper, tail_block: 64}\n", "the paper's rule has no tail");
  refused("validate: {speed_tokens: 1}\n", "key 'validate.speed_tokens': out of range");
  refused("validate: {speed_tokens: 32768}\n", "expected 0, or 2 to 32767");
  refused("selection: {min_tokens: 5, max_tokens: 4}\n", "above max_tokens");
  refused("calibrate: {p: []}\n", "an empty list");
  refused("calibrate: {p: [0.5, 2]}\n", "calibrate.p");
  refused("validate: {tasks: []}\n", "nothing to measure");
  EXPECT_TRUE(contains(error_of([] { Recipe::parse("seed: 1\n", "r.yaml", {}); }), "at least one source"));
  EXPECT_TRUE(contains(error_of([] { parse("", {"data.held_out_share=0.5"}); }), "has to be given once"));
  EXPECT_TRUE(contains(error_of([] { parse("", {"data.sources=[{name: a}]"}); }), "without name or files"));
}

TEST(Recipe, IsDocumentedInOnePlace) {
  EXPECT_EQ(Recipe::documentation(), read_text(kSource / "recipes" / "README.md"))
      << "write it anew: build/retrosparse recipe > recipes/README.md";
}

}  // namespace
}  // namespace retrosparse
