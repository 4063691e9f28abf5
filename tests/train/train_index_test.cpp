#include "train/train_index.h"

#include <gtest/gtest.h>

#include <csignal>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/testing.h"
#include "checkpoint/safetensors.h"
#include "dist/worker_processes.h"
#include "train/tiny_training.h"
#include "train/training_state.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;

struct Line {
  int64_t step;
  double kl, learning_rate;
  bool operator==(const Line&) const = default;
};

std::vector<Line> metrics(const fs::path& folder) {
  std::ifstream in(folder / "metrics.jsonl");
  std::vector<Line> lines;
  for (std::string text; std::getline(in, text);) {
    const JsonObject json = JsonObject::parse(text, "metrics.jsonl");
    lines.push_back({json.get<int64_t>("step"), json.get<double>("kl"), json.get<double>("learning_rate")});
  }
  return lines;
}

void expect_same_tensors(const fs::path& a, const fs::path& b, double tolerance) {
  const SafetensorsFile first(a / "indexer.safetensors"), second(b / "indexer.safetensors");
  ASSERT_EQ(first.tensors().size(), second.tensors().size());
  for (const auto& [name, info] : first.tensors()) {
    const double difference = (first.tensor(name) - second.tensor(name)).abs().max().item<double>();
    EXPECT_LE(difference, tolerance) << name;
  }
}

class TrainIndexTest : public testing::Test {
 protected:
  // Trains from the tiny training's start, or from the state in the folder.
  TrainingEnd train(const std::string& name, const std::function<void(const IndexTrainingStep&)>& on_step = {},
                    uint64_t data_seed = 1) {
    Indexer indexer = tiny_.make_indexer();
    DataStream data = TinyTraining::data(alone_, 64, data_seed);
    return train_index(tiny_.model, tiny_.plan, indexer, data, tiny_.options, alone_, out(name), on_step);
  }
  fs::path out(const std::string& name) const { return folder_.path() / name; }

  TinyTraining tiny_;
  TemporaryFolder folder_;
  dist::ProcessGroup alone_ = dist::ProcessGroup::from_environment(at::kCPU);
};

TEST_F(TrainIndexTest, TheLossFalls) {
  tiny_.options.steps = 60;
  double first_gate = 0, last_gate = 0;
  EXPECT_EQ(train("a",
                  [&](const IndexTrainingStep& step) {
                    (step.step < 10 ? first_gate : last_gate) += step.step < 10 || step.step >= 50 ? step.gate_loss : 0;
                  }),
            TrainingEnd::kFinished);
  const std::vector<Line> lines = metrics(out("a"));
  ASSERT_EQ(lines.size(), 60U);
  double first = 0, last = 0;
  for (size_t i = 0; i < 10; ++i) {
    first += lines[i].kl;
    last += lines[50 + i].kl;
  }
  EXPECT_LT(last, 0.7 * first);
  EXPECT_LT(last_gate, first_gate);
}

TEST_F(TrainIndexTest, WarmsUpAndFalls) {
  train("a");
  const std::vector<Line> lines = metrics(out("a"));
  ASSERT_EQ(lines.size(), 12U);
  EXPECT_NEAR(lines[0].learning_rate, 1e-2, 1e-12);
  EXPECT_NEAR(lines[1].learning_rate, 2e-2, 1e-12);
  for (size_t i = 2; i < 12; ++i) {
    EXPECT_EQ(lines[i].step, static_cast<int64_t>(i));
    EXPECT_LE(lines[i].learning_rate, lines[i - 1].learning_rate);
  }
}

TEST_F(TrainIndexTest, BothTargetsAndBothBackbonesTrain) {
  std::set<double> ends;
  for (const IndexTarget target : {IndexTarget::kFar, IndexTarget::kFull}) {
    for (const bool dense : {false, true}) {
      tiny_.options.target = target;
      tiny_.options.dense_backbone = dense;
      const std::string name = std::to_string(static_cast<int>(target)) + (dense ? "dense" : "plan");
      EXPECT_EQ(train(name), TrainingEnd::kFinished);
      ends.insert(metrics(out(name)).back().kl);
    }
  }
  EXPECT_EQ(ends.size(), 4U) << "each is another training";
}

TEST_F(TrainIndexTest, GoesOnToTheSameBitsAfterAStopAnywhere) {
  train("whole");
  struct Stop {};
  for (const int64_t at : {0, 4, 7, 11}) {
    const std::string name = "stopped" + std::to_string(at);
    EXPECT_THROW(train(name,
                       [&](const IndexTrainingStep& step) {
                         if (step.step == at) {
                           throw Stop();
                         }
                       }),
                 Stop);
    EXPECT_FALSE(fs::exists(out(name) / "indexer.safetensors"));
    std::ofstream(out(name) / "metrics.jsonl", std::ios::app) << R"({"step": 9)";  // a line that was cut short
    EXPECT_EQ(train(name), TrainingEnd::kFinished);
    expect_same_tensors(out(name), out("whole"), 0);
    EXPECT_EQ(metrics(out(name)), metrics(out("whole"))) << "stopped behind step " << at;
  }
}

TEST_F(TrainIndexTest, AnInterruptSavesWithinAStep) {
  train("whole");
  int64_t steps = 0;
  const auto interrupt = [&](const IndexTrainingStep& step) {
    ++steps;
    if (step.step == 6) {
      ::raise(SIGINT);
    }
  };
  EXPECT_EQ(train("stopped", interrupt), TrainingEnd::kInterrupted);
  EXPECT_EQ(steps, 7);
  EXPECT_EQ(TrainingState::load(out("stopped") / "state")->next_step, 7);
  EXPECT_EQ(train("stopped", [&](const IndexTrainingStep& step) { EXPECT_GE(step.step, 7); }), TrainingEnd::kFinished);
  expect_same_tensors(out("stopped"), out("whole"), 0);
  EXPECT_EQ(metrics(out("stopped")), metrics(out("whole")));
}

TEST_F(TrainIndexTest, NoStepsLeaveTheStart) {
  tiny_.options.steps = 0;
  EXPECT_EQ(train("a"), TrainingEnd::kFinished);
  const SafetensorsFile file(out("a") / "indexer.safetensors");
  for (const auto& [name, tensor] : tiny_.indexer.named_tensors()) {
    EXPECT_TRUE(at::equal(file.tensor(name), tensor)) << name;
  }
  EXPECT_TRUE(metrics(out("a")).empty());
}

TEST_F(TrainIndexTest, RefusesTheStateOfAnotherRun) {
  train("a");
  const std::string before = read_text(out("a") / "metrics.jsonl");
  const IndexTrainingOptions options = tiny_.options;
  const auto refused = [&](const std::string& message) {
    const std::string found = error_of([&] { train("a"); });
    EXPECT_NE(found.find(message), std::string::npos) << found;
    EXPECT_NE(found.find((out("a") / "state").string()), std::string::npos) << found;
    tiny_.options = options;
  };
  tiny_.options.learning_rate.peak = 1e-2;
  refused("other settings: expected learning_rate 0.01, found 0.02");
  tiny_.options.adamw.weight_decay = 0.5;
  refused("expected weight_decay 0.5, found 0.01");
  tiny_.options.target = IndexTarget::kFull;
  refused("expected target \"full\", found \"far\"");
  tiny_.plan.retrieval_heads[2] = {1, 3};
  refused("expected retrieval_heads [[0,4],[],[1,3]], found [[0,4],[],[1,2]]");
  tiny_.plan.retrieval_heads[2] = {1, 2};
  EXPECT_NE(error_of([&] { train("a", {}, /*data_seed=*/2); }).find("training data are not those"), std::string::npos);
  EXPECT_EQ(read_text(out("a") / "metrics.jsonl"), before) << "nothing is lost";
}

TEST_F(TrainIndexTest, RefusesADamagedState) {
  train("a");
  const fs::path state = out("a") / "state";
  std::string bytes = read_text(state / "state.safetensors");
  bytes[bytes.size() - 3] ^= 1;  // a number that the format cannot know to be wrong
  write_atomically(state / "state.safetensors", bytes);
  EXPECT_NE(error_of([&] { train("a"); }).find("state.safetensors: damaged"), std::string::npos);
  fs::resize_file(state / "state.safetensors", 100);
  EXPECT_NE(error_of([&] { train("a"); }).find("state.safetensors"), std::string::npos);
  fs::resize_file(state / "state.json", 10);
  EXPECT_NE(error_of([&] { train("a"); }).find("state.json"), std::string::npos);
}

TEST_F(TrainIndexTest, RefusesALogThatLacksWhatTheStateHasDone) {
  train("a");
  const fs::path log = out("a") / "metrics.jsonl";
  const std::string whole = read_text(log);
  std::string broken = whole;
  broken[broken.find('\n') + 2] = '!';
  for (const std::string& damaged : {std::string(), whole.substr(whole.find('\n') + 1), broken}) {
    write_atomically(log, damaged);
    const std::string error = error_of([&] { train("a"); });
    EXPECT_TRUE(contains(error, "metrics.jsonl: damaged") && contains(error, "a/state to begin")) << error;
    EXPECT_EQ(read_text(log), damaged);
  }
  write_atomically(log, whole);
  EXPECT_EQ(train("a"), TrainingEnd::kFinished);
}

TEST_F(TrainIndexTest, RefusesDocumentsWithoutFarKeys) {
  DataStream data = TinyTraining::data(alone_, 10);
  EXPECT_NE(error_of([&] {
              train_index(tiny_.model, tiny_.plan, tiny_.indexer, data, tiny_.options, alone_, out("a"));
            }).find("expected more than 10 tokens, found 10"),
            std::string::npos);
}

TEST_F(TrainIndexTest, StopsAtALossThatIsNotFinite) {
  struct Stop {};
  EXPECT_THROW(train("a",
                     [](const IndexTrainingStep& step) {
                       if (step.step == 6) {
                         throw Stop();
                       }
                     }),
               Stop);
  tiny_.model.weights().layers[0].q_norm.fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_NE(error_of([&] { train("a"); }).find("train index, step 5: "), std::string::npos);
  EXPECT_EQ(TrainingState::load(out("a") / "state")->next_step, 5) << "the last good state stays";
  EXPECT_EQ(metrics(out("a")).size(), 5U);
}

// Processes that train together, as a launcher starts them; exit codes.
std::vector<int> run_workers(int count, const fs::path& folder, int64_t killed_at) {
  const int port = dist::testing::free_port();
  std::vector<std::unique_ptr<dist::testing::WorkerProcess>> workers;
  for (int rank = 0; rank < count; ++rank) {
    const std::map<std::string, std::string> variables{
        {"RANK", std::to_string(rank)}, {"WORLD_SIZE", std::to_string(count)}, {"LOCAL_RANK", std::to_string(rank)},
        {"MASTER_ADDR", "127.0.0.1"},   {"MASTER_PORT", std::to_string(port)}, {"OMP_NUM_THREADS", "1"}};
    workers.push_back(std::make_unique<dist::testing::WorkerProcess>(
        std::vector<std::string>{folder.string(), std::to_string(killed_at)}, variables, "train_worker"));
  }
  std::vector<int> codes;
  for (const auto& worker : workers) {
    codes.push_back(worker->wait());
    EXPECT_TRUE(codes.back() == 0 || killed_at >= 0) << worker->output();
  }
  return codes;
}

TEST(TrainIndexProcesses, KilledAndStartedAgainItEndsWithTheSameBits) {
  const TemporaryFolder folder;
  EXPECT_EQ(run_workers(1, folder.path() / "whole", -1), std::vector<int>{0});
  EXPECT_EQ(run_workers(1, folder.path() / "killed", 3), std::vector<int>{128 + SIGKILL});
  EXPECT_EQ(run_workers(1, folder.path() / "killed", 8), std::vector<int>{128 + SIGKILL});
  EXPECT_EQ(run_workers(1, folder.path() / "killed", -1), std::vector<int>{0});
  expect_same_tensors(folder.path() / "killed", folder.path() / "whole", 0);
  EXPECT_EQ(metrics(folder.path() / "killed"), metrics(folder.path() / "whole"));
}

TEST(TrainIndexProcesses, TwoRanksEqualOne) {
  const TemporaryFolder folder;
  EXPECT_EQ(run_workers(1, folder.path() / "one", -1), std::vector<int>{0});
  EXPECT_EQ(run_workers(2, folder.path() / "two", -1), (std::vector<int>{0, 0}));
  expect_same_tensors(folder.path() / "two", folder.path() / "one", 1e-5);
  const std::vector<Line> one = metrics(folder.path() / "one"), two = metrics(folder.path() / "two");
  ASSERT_EQ(one.size(), two.size());
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_NEAR(one[i].kl, two[i].kl, 1e-5);
  }
}

}  // namespace
}  // namespace retrosparse
