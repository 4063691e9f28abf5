// Prefill by tiles with the GPU's kernels against the tensor code on the CPU, from the same rounded inputs.
#include "sparse/fused_tiles.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "sparse/sparse_attention.h"

namespace retrosparse {
namespace {

constexpr int64_t kHeads = 6, kGroups = 2, kTokens = 1900, kWindow = 300, kSinks = 4;
constexpr double kScale = 0.125, kTileShare = 0.2;

struct Case {
  int64_t head_dim, index_dim, tail_block;
};

class FusedTilesTest : public testing::TestWithParam<Case> {
 protected:
  FusedTilesTest() {
    at::manual_seed(92);
    const int64_t head_dim = GetParam().head_dim;
    model_.plan = {kHeads, kGroups, {kSinks, kWindow}, {{1, 3, 5}}};
    model_.indexer = Indexer::allocate(model_.plan, head_dim, GetParam().index_dim, at::kCPU);
    const double spread = 0.72 * std::sqrt(4 / std::sqrt(static_cast<double>(GetParam().index_dim)));
    for (const at::Tensor& tensor : model_.indexer.projections()) {
      tensor.copy_(at::randn(tensor.sizes()) * (spread / std::sqrt(static_cast<double>(head_dim))));  // scores of 2
    }
    for (const at::Tensor& tensor : model_.indexer.gates()) {
      tensor.copy_(at::randn(tensor.sizes()) * 0.05);
    }
    model_.prefill = {PrefillMode::kTiles, kTileShare, {}};
    model_.selection = SelectionSettings::uniform(model_.plan, SelectionRule::kTopP, {});
    model_.selection.tail_block = GetParam().tail_block;
    const auto random = [&](int64_t heads) { return at::randn({kTokens, heads, head_dim}).to(at::kBFloat16); };
    input_ = {0, 0, kScale, random(kHeads), random(kGroups), random(kHeads), random(kGroups), random(kGroups)};
  }

  AttentionInput input_on(at::TensorOptions options) const {
    AttentionInput input = input_;
    for (at::Tensor* tensor : {&input.q_pre_rope, &input.k_pre_rope, &input.q, &input.k, &input.v}) {
      *tensor = tensor->to(options);
    }
    return input;
  }

  // In two chunks, the second against the cache of the first.
  at::Tensor run(const SparseModel& model, at::TensorOptions options, TileCounts& counts) const {
    const at::NoGradGuard no_grad;
    const AttentionInput input = input_on(options);
    SparseAttention attention(model);
    const at::Tensor first = attention.forward(input.rows(0, 1024));
    const at::Tensor second = attention.forward(input.rows(1024, kTokens - 1024));
    counts = attention.tile_counts();
    return at::cat({first, second}).to(at::kCPU, at::kFloat);
  }

  SparseModel model_;
  AttentionInput input_;
};

TEST_P(FusedTilesTest, AgreesWithTheTensorCode) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no GPU";
  }
  TileCounts expected_counts, counts;
  const at::Tensor expected = run(model_, at::kFloat, expected_counts);
  SparseModel on_gpu = model_;
  on_gpu.indexer = Indexer::allocate(model_.plan, GetParam().head_dim, GetParam().index_dim, at::kCUDA);
  on_gpu.indexer.load(model_.indexer.named_tensors());
  const at::TensorOptions options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  {
    const at::NoGradGuard no_grad;
    ASSERT_TRUE(serves_tiles(input_on(options).rows(1024, 300), on_gpu.indexer.layers[0]));
    ASSERT_FALSE(serves_tiles(input_on(options).rows(1000, 300), on_gpu.indexer.layers[0]));
  }
  const at::Tensor got = run(on_gpu, options, counts);
  EXPECT_EQ(counts.far, expected_counts.far);
  ASSERT_GT(expected_counts.density(), 0.1);
  ASSERT_LT(expected_counts.density(), 0.9);
  // A tile at the edge of the threshold may fall on the other side of it in binary16.
  EXPECT_NEAR(counts.density(), expected_counts.density(), 0.02);
  EXPECT_LT((got - expected).abs().mean().item<double>(), 2e-3);
  // There, the rows whose attention it holds change as much as a key of that share may matter; no others do.
  EXPECT_LT((got - expected).abs().amax(-1).gt(0.05).to(at::kDouble).mean().item<double>(), 1e-2);
}

// The same with the kernels' references.
TEST_P(FusedTilesTest, ReferencesAgreeWithTheTensorCode) {
  TileCounts expected_counts, counts;
  const at::Tensor expected = run(model_, at::kFloat, expected_counts);
  const at::NoGradGuard no_grad;
  const LayerIndexer& layer = model_.indexer.layers[0];
  const AttentionInput input = input_on(at::kFloat);
  ValueMeans means(kSinks, std::max<int64_t>(GetParam().tail_block, 1));
  const TailInput tail{layer.queries(input.q_pre_rope), layer.keys(input.k_pre_rope), layer.gate(input.q_pre_rope),
                       means.update(input.v, layer.group_index), GetParam().tail_block};
  const at::Tensor got = attend_by_tiles(input, layer, tail, model_.plan.local, model_.prefill.shares_of(0, 3), counts);
  EXPECT_EQ(counts.far, expected_counts.far);
  EXPECT_NEAR(counts.density(), expected_counts.density(), 0.01);
  EXPECT_LT((got - expected).abs().mean().item<double>(), 2e-4);
  EXPECT_LT((got - expected).abs().amax(-1).gt(0.02).to(at::kDouble).mean().item<double>(), 1e-2);
}

INSTANTIATE_TEST_SUITE_P(Shapes, FusedTilesTest,
                         testing::Values(Case{64, 16, 0}, Case{128, 16, 0}, Case{64, 32, 0}, Case{64, 16, 50},
                                         Case{128, 24, 64}),
                         [](const auto& test) {
                           const Case& c = test.param;
                           return fmt::format("head_dim_{}_index_dim_{}_tail_{}", c.head_dim, c.index_dim,
                                              c.tail_block);
                         });

TEST(PackTiles, IsUndoneByUnpacking) {
  at::manual_seed(3);
  const at::Tensor selected = at::randn({3, 4, 75}).gt(0);
  const at::Tensor packed = pack_tiles(selected, 4);
  EXPECT_EQ(packed.scalar_type(), at::kInt);
  EXPECT_EQ(packed.sizes(), (at::IntArrayRef{3, 4, 4}));
  const at::Tensor unpacked = unpack_tiles(packed);
  EXPECT_TRUE(unpacked.narrow(-1, 0, 75).equal(selected));
  EXPECT_FALSE(unpacked.narrow(-1, 75, 53).any().item<bool>());
  for (const int64_t tile : {0, 31, 32, 74}) {
    const auto word = static_cast<uint32_t>(packed[1][2][tile / 32].item<int32_t>());
    EXPECT_EQ((word >> (tile % 32) & 1) != 0, selected[1][2][tile].item<bool>()) << tile;
  }
}

}  // namespace
}  // namespace retrosparse
