#include "train/index_loss.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/plain_attention.h"

namespace retrosparse {
namespace {

constexpr int64_t kTokens = 90, kHeadDim = 12, kWindow = 15, kSinks = 2;
constexpr double kScale = 0.3;

class IndexLossTest : public testing::TestWithParam<IndexTarget> {
 protected:
  IndexLossTest() {
    at::manual_seed(61);
    plan_ = {4, 2, {kSinks, kWindow}, {{0, 1, 3}}};
    indexer_ = Indexer::allocate(plan_, kHeadDim, 4, at::kCPU);
    for (const auto& tensors : {indexer_.projections(), indexer_.gates()}) {
      for (const at::Tensor& tensor : tensors) {
        tensor.copy_(at::randn(tensor.sizes()) * 0.4);
        tensor.requires_grad_(true);
      }
    }
    const auto random = [](int64_t heads) { return at::randn({kTokens, heads, kHeadDim}); };
    input_ = {0, 0, kScale, random(4), random(2), random(4), random(2), random(2)};
  }

  // The loss of one head and row in double precision, and its parts, as a differentiable scalar.
  struct RowLoss {
    at::Tensor kl, gate;
    double mass;
  };
  RowLoss row_loss(int64_t place, int64_t row) const {
    const LayerIndexer& layer = indexer_.layers[0];
    const int64_t head = layer.heads[static_cast<size_t>(place)], group = head / 2;
    const auto d = [](const at::Tensor& tensor) { return tensor.to(at::kDouble); };
    const at::Tensor exact = d(input_.k.select(1, group)).slice(0, 0, row + 1).matmul(d(input_.q[row][head])) * kScale;
    const at::Tensor index = d(input_.k_pre_rope.select(1, group))
                                 .slice(0, 0, row + 1)
                                 .matmul(d(layer.k_proj[group]).t())
                                 .matmul(d(layer.q_proj[place]).matmul(d(input_.q_pre_rope[row][head])));
    const at::Tensor far_exact = exact.slice(0, kSinks, row - kWindow + 1),
                     far_index = index.slice(0, kSinks, row - kWindow + 1);
    const at::Tensor local = at::cat({exact.slice(0, 0, kSinks), exact.slice(0, row - kWindow + 1, row + 1)});
    const double mass = (far_exact.logsumexp(0) - exact.logsumexp(0)).exp().item<double>();
    const at::Tensor estimate =
        at::sigmoid(far_index.detach().logsumexp(0) + d(layer.gate_weight[place]).dot(d(input_.q_pre_rope[row][head])) +
                    d(layer.gate_bias[place]) - local.logsumexp(0));
    const at::Tensor gate = -(mass * estimate.log() + (1 - mass) * (1 - estimate).log());
    const at::Tensor& p = GetParam() == IndexTarget::kFar ? far_exact : exact;
    const at::Tensor& q = GetParam() == IndexTarget::kFar ? far_index : index;
    const at::Tensor log_p = at::log_softmax(p, 0);
    return {(log_p.exp() * (log_p - at::log_softmax(q, 0))).sum(), gate, mass};
  }

  std::vector<at::Tensor> parameters() const {
    std::vector<at::Tensor> all = indexer_.projections();
    for (const at::Tensor& tensor : indexer_.gates()) {
      all.push_back(tensor);
    }
    return all;
  }

  HeadPlan plan_;
  Indexer indexer_;
  AttentionInput input_;
};

TEST_P(IndexLossTest, LossAndGradientsEqualTheDefinition) {
  const std::vector<int64_t> rows{kWindow + kSinks, 40, 41, 77, 89};
  at::Tensor total = at::zeros({}, at::kDouble);
  double weighted_kl = 0, weight = 0;
  for (int64_t place = 0; place < 3; ++place) {
    for (const int64_t row : rows) {
      const RowLoss loss = row_loss(place, row);
      const double row_weight = GetParam() == IndexTarget::kFar ? loss.mass : 1;
      total = total + row_weight * loss.kl + loss.gate;
      weighted_kl += row_weight * loss.kl.item<double>();
      weight += row_weight;
    }
  }
  (total * (0.5 / static_cast<double>(rows.size()))).backward();
  std::vector<at::Tensor> expected;
  for (at::Tensor& parameter : parameters()) {
    expected.push_back(parameter.grad().clone());
    parameter.mutable_grad() = at::Tensor();
  }

  IndexLoss loss(plan_, indexer_, GetParam(), rows, 0.5);
  {
    const at::NoGradGuard no_grad;  // as the frozen backbone runs
    loss.observe(input_);
  }
  const IndexStatistics& sums = loss.statistics()[0];
  EXPECT_EQ(sums.rows, 5);
  EXPECT_NEAR(sums.weighted_kl.sum().item<double>(), weighted_kl, 1e-4);
  EXPECT_NEAR(sums.weight.sum().item<double>(), weight, 1e-4);
  const std::vector<at::Tensor> got = parameters();
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(got[i].grad().defined()) << i;
    EXPECT_LT(max_difference(got[i].grad(), expected[i]), 1e-5) << "parameter " << i;
  }
}

TEST_P(IndexLossTest, WithoutScaleNothingIsDifferentiated) {
  IndexLoss loss(plan_, indexer_, GetParam(), {50, 60}, 0);
  loss.observe(input_);
  EXPECT_GT(loss.statistics()[0].kl.sum().item<double>(), 0);
  for (const at::Tensor& parameter : parameters()) {
    EXPECT_FALSE(parameter.grad().defined());
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, IndexLossTest, testing::Values(IndexTarget::kFar, IndexTarget::kFull),
                         [](const auto& target) { return target.param == IndexTarget::kFar ? "far" : "full"; });

TEST(SampleRows, AreDifferentAscendingAndFollowTheSeed) {
  const std::vector<int64_t> rows = sample_rows(10, 1000, 64, 7);
  EXPECT_EQ(rows.size(), 64U);
  EXPECT_TRUE(std::ranges::is_sorted(rows));
  EXPECT_EQ(std::ranges::adjacent_find(rows), rows.end());
  EXPECT_GE(rows.front(), 10);
  EXPECT_LT(rows.back(), 1000);
  EXPECT_EQ(rows, sample_rows(10, 1000, 64, 7));
  EXPECT_NE(rows, sample_rows(10, 1000, 64, 8));
  EXPECT_EQ(sample_rows(5, 8, 64, 1), (std::vector<int64_t>{5, 6, 7}));
  EXPECT_TRUE(sample_rows(8, 5, 64, 1).empty());
}

}  // namespace
}  // namespace retrosparse
