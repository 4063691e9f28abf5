#include "convert/manifest.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/testing.h"

namespace retrosparse {
namespace {

StageRecord record(StageRecord::State state) {
  return {state, {{"train.steps", 300}, {"model (content)", "ab"}}, {{"train/a.json", "cd"}}, 12.5, 1e9};
}

TEST(Manifest, KeepsWhatStagesDid) {
  const TempFolder folder;
  {
    Manifest manifest(folder / "");
    EXPECT_FALSE(manifest.find("train"));
    manifest.describe({{"torch", "2.11.0"}});
    manifest.put("train", record(StageRecord::State::kDone));
    manifest.put("export", record(StageRecord::State::kRunning));
    manifest.remove("export");
  }
  Manifest manifest(folder / "");
  EXPECT_FALSE(manifest.find("export"));
  manifest.put("export", record(StageRecord::State::kRunning));
  manifest.remove("export");  // writes the description again
  const auto found = manifest.find("train");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->state, StageRecord::State::kDone);
  EXPECT_EQ(found->inputs, record(StageRecord::State::kDone).inputs);
  EXPECT_EQ(found->outputs, record(StageRecord::State::kDone).outputs);
  EXPECT_EQ(found->seconds, 12.5);
  EXPECT_TRUE(contains(read_text(folder / "manifest.json"), "\"torch\": \"2.11.0\""));
}

TEST(Manifest, RefusesWhatItCannotRead) {
  const TempFolder folder;
  const auto refused = [&](std::string_view text, std::string_view says) {
    write_atomically(folder / "manifest.json", text);
    EXPECT_TRUE(contains(error_of([&] { Manifest manifest(folder / ""); }), says));
  };
  refused("{", "manifest.json");
  refused(R"({"version": 3, "stages": {}})", "version");
  refused(R"({"version": 2, "stages": {"train": {"state": "dreaming"}}})", "stages.train.state");
  refused(R"({"version": 2, "stages": {"train": {"state": "done"}}})", "stages.train");
}

TEST(Differences, AreSaidInWords) {
  const StageInputs before = {{"train.steps", 300}, {"model (content)", "ab"}, {"data a: b.txt (content)", "x"}};
  EXPECT_TRUE(differences(before, before).empty());
  StageInputs now = before;
  now["train.steps"] = 600;
  now["model (content)"] = "cd";
  now.erase("data a: b.txt (content)");
  now["seed"] = 1;
  EXPECT_EQ(differences(before, now),
            (std::vector<std::string>{"model (content) changed", "seed is new", "train.steps was 300, is 600",
                                      "data a: b.txt (content) is gone"}));
}

}  // namespace
}  // namespace retrosparse
