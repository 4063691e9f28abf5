// Prefill by tiles with the GPU's kernels against the tensor code on the CPU, from the same rounded inputs.
#include "sparse/fused_tiles.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "sparse/sparse_attention.h"

namespace retrosparse {
namespace {

constexpr int64_t kHeads = 6, kGroups = 2, kTokens = 1900, kWindow = 300, kSinks = 4;
constexpr double kScale = 0.125, kTileShare = 0.2;

class FusedTilesTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) {
      GTEST_SKIP() << "no GPU";
    }
    at::manual_seed(92);
    model_.plan = {kHeads, kGroups, {kSinks, kWindow}, {{1, 3, 5}}};
    model_.indexer = Indexer::allocate(model_.plan, GetParam(), 16, at::kCPU);
    for (const at::Tensor& tensor : model_.indexer.projections()) {
      tensor.copy_(at::randn(tensor.sizes()) *
                   (0.72 / std::sqrt(static_cast<double>(GetParam()))));  // scores of spread 2
    }
    for (const at::Tensor& tensor : model_.indexer.gates()) {
      tensor.copy_(at::randn(tensor.sizes()) * 0.05);
    }
    model_.prefill = {PrefillMode::kTiles, kTileShare};
    const auto random = [&](int64_t heads) { return at::randn({kTokens, heads, GetParam()}).to(at::kBFloat16); };
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
  TileCounts expected_counts, counts;
  const at::Tensor expected = run(model_, at::kFloat, expected_counts);
  SparseModel on_gpu = model_;
  on_gpu.indexer = Indexer::allocate(model_.plan, GetParam(), 16, at::kCUDA);
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

INSTANTIATE_TEST_SUITE_P(HeadDims, FusedTilesTest, testing::Values(64, 128));

}  // namespace
}  // namespace retrosparse
