#include "distill/distill.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/file.h"
#include "base/json.h"
#include "base/testing.h"
#include "train/tiny_training.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;

class DistillTest : public testing::Test {
 protected:
  DistillTest() {
    sparse_.plan = tiny_.plan;
    sparse_.indexer = tiny_.make_indexer();
    sparse_.selection = SelectionSettings::uniform(sparse_.plan, SelectionRule::kTopP, {0.9, 2, 4});
    for (int64_t document = 0; document < options_.steps * options_.documents_per_step; ++document) {
      answers_.ask(tiny_.model, document, source_.sample(document), tiny_.plan.local, 64);
    }
  }

  ModelWeights start() const {
    return load_weights(Checkpoint::open(tiny_.checkpoint.path()), tiny_.config, at::kCPU, at::kFloat);
  }

  TrainingEnd train(ModelWeights& weights, const std::string& name) {
    DataStream data = TinyTraining::data(alone_);
    return distill(tiny_.model.config(), weights, sparse_, answers_, data, options_, alone_, folder_.path() / name);
  }

  std::vector<double> losses(const std::string& name) const {
    std::vector<double> losses;
    for (const JsonObject& line : JsonObject::read_lines(folder_.path() / name / "metrics.jsonl")) {
      losses.push_back(line.get<double>("loss"));
    }
    return losses;
  }

  TinyTraining tiny_;
  TemporaryFolder folder_;
  dist::ProcessGroup alone_ = dist::ProcessGroup::from_environment(at::kCPU);
  SparseModel sparse_;
  RandomTokens source_{64, 1};
  DistillOptions options_{.steps = 12, .documents_per_step = 2, .learning_rate = {2e-3, 2}, .save_every = 5};
  TeacherAnswers answers_{folder_.path() / "teacher", 10, {16, 8}};
};

TEST_F(DistillTest, TheLossFallsAndEveryWeightMoves) {
  ModelWeights weights = start(), before = start();
  ASSERT_EQ(train(weights, "a"), TrainingEnd::kFinished);
  const std::vector<double> measured = losses("a");
  ASSERT_EQ(measured.size(), 12U);
  EXPECT_LT(measured[10] + measured[11], 0.8 * (measured[0] + measured[1]));
  const auto trained = named_weights(weights);
  for (const auto& [name, tensor] : named_weights(before)) {
    EXPECT_GT((trained.at(name).detach() - tensor).abs().max().item<double>(), 1e-5) << name;
  }
}

TEST_F(DistillTest, GoesOnToTheSameBits) {
  ModelWeights whole = start();
  train(whole, "whole");
  ModelWeights stopped = start();
  fs::rename(folder_.path() / "teacher" / "000016.safetensors", folder_.path() / "kept");  // breaks step 8
  EXPECT_ANY_THROW(train(stopped, "stopped"));
  fs::rename(folder_.path() / "kept", folder_.path() / "teacher" / "000016.safetensors");
  EXPECT_EQ(losses("stopped").size(), 8U);
  ModelWeights resumed = start();
  EXPECT_EQ(train(resumed, "stopped"), TrainingEnd::kFinished);
  const auto expected = named_weights(whole);
  for (const auto& [name, tensor] : named_weights(resumed)) {
    EXPECT_TRUE(tensor.equal(expected.at(name))) << name;
  }
  EXPECT_EQ(losses("stopped"), losses("whole"));
}

TEST_F(DistillTest, RefusesAnswersOfTheDenseModelThatAreDamaged) {
  ModelWeights weights = start();
  const fs::path answer = folder_.path() / "teacher" / "000003.safetensors";
  std::string bytes = read_text(answer);
  bytes[bytes.size() - 40] ^= 1;
  write_atomically(answer, bytes);
  const std::string error = error_of([&] { train(weights, "a"); });
  EXPECT_TRUE(contains(error, "000003.safetensors: damaged")) << error;
}

TEST_F(DistillTest, LearnsNothingWhereThereIsNothingToLearn) {
  // Everything picked and a window of the whole text: the student is the teacher.
  sparse_.selection = SelectionSettings::uniform(sparse_.plan, SelectionRule::kTopK, {0.9, 64, 64});
  for (size_t layer = 0; layer < sparse_.plan.retrieval_heads.size(); ++layer) {
    sparse_.plan.retrieval_heads[layer] = {0, 1, 2, 3, 4, 5};
  }
  sparse_.indexer = Indexer::allocate(sparse_.plan, tiny_.config.head_dim, 4, at::kCPU);
  sparse_.selection = SelectionSettings::uniform(sparse_.plan, SelectionRule::kTopK, {0.9, 64, 64});
  options_.steps = 1;
  ModelWeights weights = start();
  train(weights, "same");
  EXPECT_LT(std::abs(losses("same").front()), 1e-7);
}

TEST(DistillationRows, AreTheLastLabelsThatHaveFarKeys) {
  const LocalWindow local{2, 8};
  Sample sample{std::vector<int64_t>(30), {0}, {}};
  std::iota(sample.ids.begin(), sample.ids.end(), 100);
  const auto rows = [&](int64_t label_rows) {
    const DistillationRows learned = distillation_rows(sample, local, {label_rows, 0});
    EXPECT_EQ(learned.num_prompt, 0);
    EXPECT_EQ(learned.sparse_from, learned.rows.rows.empty() ? 30 : learned.rows.rows.front());
    return learned.rows;
  };
  EXPECT_EQ(rows(5).rows, (std::vector<int64_t>{24, 25, 26, 27, 28}));
  EXPECT_EQ(rows(5).targets, (std::vector<int64_t>{125, 126, 127, 128, 129}));
  EXPECT_EQ(rows(100).rows.front(), 10);
  sample.labels = {{5, 7}, {12, 14}, {20, 21}};
  EXPECT_EQ(rows(100).rows, (std::vector<int64_t>{11, 12, 19}));
  EXPECT_EQ(rows(2).rows, (std::vector<int64_t>{12, 19}));
  sample.labels = {{5, 7}};
  EXPECT_TRUE(rows(2).rows.empty());
}

TEST(DistillationRows, ThoseOfThePromptAreSpacedEvenlyBeforeTheLabels) {
  const LocalWindow local{2, 8};
  Sample sample{std::vector<int64_t>(30), {0}, {{26, 28}}};
  std::iota(sample.ids.begin(), sample.ids.end(), 100);
  const DistillationRows some = distillation_rows(sample, local, {100, 5});
  EXPECT_EQ(some.rows.rows, (std::vector<int64_t>{10, 13, 16, 19, 22, 25, 26}));
  EXPECT_EQ(some.rows.targets, (std::vector<int64_t>{111, 114, 117, 120, 123, 126, 127}));
  EXPECT_EQ(some.num_prompt, 5);
  EXPECT_EQ(some.sparse_from, 25);
  const DistillationRows all = distillation_rows(sample, local, {1, 100});
  EXPECT_EQ(all.rows.rows.size(), 17U);  // 10 to 26
  EXPECT_EQ(all.num_prompt, 16);
  EXPECT_EQ(all.sparse_from, 26);
  sample.labels = {{5, 7}};  // has no far keys
  const DistillationRows prompt = distillation_rows(sample, local, {100, 4});
  EXPECT_EQ(prompt.rows.rows, (std::vector<int64_t>{10, 14, 19, 24}));
  EXPECT_EQ(prompt.sparse_from, 30);
}

TEST_F(DistillTest, TheTeachersAnswersAreTheDenseModels) {
  const Sample sample = source_.sample(3);
  const LabelRows rows = distillation_rows(sample, tiny_.plan.local, answers_.rows()).rows;
  const at::NoGradGuard no_grad;
  const at::Tensor logits = tiny_.model.logits(tiny_.model.forward(sample.ids));
  const TeacherRows said = answers_.read(3, 24, at::kCPU);
  ASSERT_EQ(said.ids.sizes(), (at::IntArrayRef{24, 10}));
  EXPECT_THROW(answers_.read(3, 23, at::kCPU), Error);
  for (int64_t i = 0; i < 24; ++i) {
    const at::Tensor row = logits[rows.rows[static_cast<size_t>(i)]];
    EXPECT_LT((row.index_select(0, said.ids[i]) - said.logits[i]).abs().max().item<double>(), 1e-4);
    EXPECT_NEAR(row.max().item<double>(), said.logits[i][0].item<double>(), 1e-4);
  }
}

}  // namespace
}  // namespace retrosparse
