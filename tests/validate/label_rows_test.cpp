#include "validate/label_rows.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "model/plain_attention.h"
#include "model/tiny_model.h"
#include "validate/tile_curve.h"

namespace retrosparse {
namespace {

class LabelRowsTest : public testing::Test {
 protected:
  LabelRowsTest() {
    const ModelConfig config = write_tiny_checkpoint(folder_.path());
    at::manual_seed(71);
    const at::Tensor random = at::randint(61, {140}, at::kLong);
    ids_.assign(random.const_data_ptr<int64_t>(), random.const_data_ptr<int64_t>() + random.numel());
    sparse_.plan = {6, 2, {2, 16}, {{0, 4}, {}, {3}}};
    sparse_.indexer = Indexer::allocate(sparse_.plan, config.head_dim, 4, at::kCPU);
    sparse_.indexer.initialize_random(config.head_dim, 1);
    sparse_.selection = SelectionSettings::uniform(sparse_.plan, SelectionRule::kTopK, {0.9, 5, 5});
    for (const int64_t row : {100, 101, 105, 130}) {
      labels_.rows.push_back(row);
      labels_.targets.push_back(ids_[static_cast<size_t>(row) + 1]);
    }
  }
  Model load() const { return Model::load(folder_.path(), at::kCPU, at::kFloat); }

  // One pass over everything; sparse from a row on.
  at::Tensor whole_pass(const Model& model, int64_t sparse_from) {
    const at::NoGradGuard no_grad;
    SparseAttention attention(sparse_);
    attention.set_sparse_from(sparse_from);
    const at::Tensor hidden = model.forward(ids_, {.attention = &attention});
    return model.logits(hidden.index_select(0, at::tensor(labels_.rows)));
  }

  TemporaryFolder folder_;
  std::vector<int64_t> ids_;
  SparseModel sparse_;
  LabelRows labels_;
};

TEST_F(LabelRowsTest, RunAgainAndAgainEqualWholePasses) {
  const Model model = load();
  PrefilledSample sample(model, sparse_, ids_, labels_, 33);
  for (int repeat = 0; repeat < 2; ++repeat) {
    EXPECT_LT(max_difference(sample.with_dense_retrieval(), whole_pass(model, 1000)), 1e-4);
    HeadCounts counts;
    EXPECT_LT(max_difference(sample.with_selection(sparse_.selection, &counts), whole_pass(model, 100)), 1e-4);
    EXPECT_EQ(total(counts).rows, 31 * 3);  // rows 100 to 130, three retrieval heads
    EXPECT_DOUBLE_EQ(total(counts).mean(), 5);
  }
  EXPECT_GT(max_difference(sample.with_dense_retrieval(), sample.with_selection(sparse_.selection)), 1e-3);
}

TEST_F(LabelRowsTest, PickingEverythingIsDense) {
  const Model model = load();
  PrefilledSample sample(model, sparse_, ids_, labels_, 64);
  const SelectionSettings all = SelectionSettings::uniform(sparse_.plan, SelectionRule::kTopK, {0.9, 1000, 1000});
  const at::Tensor dense = sample.with_dense_retrieval(), got = sample.with_selection(all);
  EXPECT_LT(max_difference(got, dense), 1e-4);
  EXPECT_LT(score_rows(got, labels_.targets, dense).kl, 1e-6);
}

TEST_F(LabelRowsTest, PrefilledByTilesEqualsAWholePassByTiles) {
  const Model model = load();
  sparse_.prefill = {PrefillMode::kTiles, 0.1};
  PrefilledSample sample(model, sparse_, ids_, labels_, 128, sparse_.prefill), dense(model, sparse_, ids_, labels_, 64);
  TileCounts counts;
  const at::Tensor by_tiles = sample.with_prefill(&counts), reference = dense.with_dense_retrieval();
  EXPECT_GT(counts.computed, 0);
  EXPECT_LT(counts.computed, counts.far);
  EXPECT_LT(max_difference(sample.with_prefill(), by_tiles), 1e-6);

  // Prompt and rows in the same chunks, without the way through label rows.
  const at::NoGradGuard no_grad;
  SparseAttention attention(sparse_);
  KvCache cache = model.make_cache();
  const at::IntArrayRef ids(ids_);
  model.forward(ids.slice(0, 100), {.cache = &cache, .attention = &attention});
  const at::Tensor hidden = model.forward(ids.slice(100, 31), {.cache = &cache, .attention = &attention});
  EXPECT_LT(max_difference(model.logits(hidden.index_select(0, at::tensor(labels_.rows) - 100)), by_tiles), 1e-4);
  EXPECT_EQ(counts.computed, attention.tile_counts().computed);
  EXPECT_GT(max_difference(by_tiles, reference), 1e-3);

  // What a prompt's tiles lose stays lost.
  EXPECT_GT(max_difference(sample.with_dense_retrieval(), reference), 1e-4);
}

TEST_F(LabelRowsTest, AllTilesAreDense) {
  const Model model = load();
  const ScoredSample scored{"random", ids_, labels_};
  const auto points = measure_tiles(
      model, sparse_, 2, [&](int64_t) { return scored; },
      {{PrefillMode::kTiles, 1e-9, {}}, {PrefillMode::kTiles, 1.0, {}}}, 64);
  EXPECT_EQ(points[0].counts.density(), 1);
  EXPECT_LT(points[0].kl(), 1e-6);
  EXPECT_EQ(points[1].counts.density(), 0);
  EXPECT_GT(points[1].kl(), 1e-5);
  EXPECT_EQ(points[1].scores.rows, 8);
}

TEST_F(LabelRowsTest, DenseLogitsAreTheUnconvertedModels) {
  const Model model = load();
  const at::NoGradGuard no_grad;
  const at::Tensor expected = model.logits(model.forward(ids_)).index_select(0, at::tensor(labels_.rows));
  for (const int64_t chunk : {1, 3, 50, 1000}) {  // label rows in several chunks, and all in one
    EXPECT_LT(max_difference(dense_label_logits(model, ids_, labels_, chunk), expected), 1e-4) << chunk;
  }
}

TEST_F(LabelRowsTest, RowsOutsideTheSampleAreAnError) {
  const Model model = load();
  EXPECT_THROW(PrefilledSample(model, sparse_, ids_, {{140}, {1}}, 64), Error);
  EXPECT_THROW(PrefilledSample(model, sparse_, ids_, {{}, {}}, 64), Error);
  EXPECT_THROW(dense_label_logits(model, ids_, {{140}, {1}}, 64), Error);
}

TEST(ScoreRows, FollowsTheDefinitions) {
  const at::Tensor logits = at::tensor({2.0F, 0.0F, 0.0F, 0.0F, 1.0F, 3.0F}).view({2, 3});
  const at::Tensor reference = at::tensor({1.0F, 1.0F, 1.0F, 0.0F, 0.0F, 0.0F}).view({2, 3});
  const LabelScores scores = score_rows(logits, {0, 1}, reference);
  EXPECT_EQ(scores.rows, 2);
  EXPECT_EQ(scores.correct, 1);
  EXPECT_FALSE(scores.all_correct);
  const double z0 = std::log(std::exp(2) + 2), z1 = std::log(1 + std::exp(1) + std::exp(3));
  EXPECT_NEAR(scores.nll, (z0 - 2) + (z1 - 1), 1e-9);
  EXPECT_NEAR(scores.kl, (z0 - 2.0 / 3 - std::log(3)) + (z1 - 4.0 / 3 - std::log(3)), 1e-9);
}

}  // namespace
}  // namespace retrosparse
