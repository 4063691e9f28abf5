#include "sparse/trainable_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "model/plain_attention.h"

namespace retrosparse {
namespace {

constexpr int64_t kHeads = 6, kGroups = 2, kHeadDim = 16, kTokens = 120, kSparseFrom = 90;

class TrainableAttentionTest : public testing::Test {
 protected:
  TrainableAttentionTest() {
    at::manual_seed(7);
    model_.plan = {kHeads, kGroups, {3, 20}, {{1, 3, 5}}};
    model_.indexer = Indexer::allocate(model_.plan, kHeadDim, 4, at::kCPU);
    model_.indexer.initialize_random(kHeadDim, 3);
    model_.selection = SelectionSettings::uniform(model_.plan, SelectionRule::kTopP, {0.9, 2, 12});
    const auto random = [](int64_t heads) { return at::randn({kTokens, heads, kHeadDim}); };
    input_ = {0, 0, 0.25, random(kHeads), random(kGroups), random(kHeads), random(kGroups), random(kGroups)};
  }

  // What each head sees, [H, T, T]: the plan before kSparseFrom, and from there on what the inference code picks.
  at::Tensor visible() {
    const at::Tensor local = visible_keys(kTokens, kTokens, 20, 3), all = visible_keys(kTokens, kTokens, kTokens, 0);
    at::Tensor seen = local.unsqueeze(0).repeat({kHeads, 1, 1});
    SparseAttention reference(model_);
    reference.set_sparse_from(kSparseFrom);
    reference.observe_picks([&](int64_t, int64_t first, const PickedTokens& picked) {
      for (int64_t place = 0; place < 3; ++place) {
        const int64_t head = 2 * place + 1;
        for (int64_t row = 0; row < picked.counts.size(1); ++row) {
          const int64_t count = picked.counts[place][row].item<int64_t>();
          seen[head][first + row].index_fill_(0, picked.positions[place][row].narrow(0, 0, count), true);
        }
      }
    });
    expected_ = reference.forward(input_);
    for (const int64_t head : {1, 3, 5}) {
      seen[head].narrow(0, 0, kSparseFrom).copy_(all.narrow(0, 0, kSparseFrom));
    }
    return seen;
  }

  SparseModel model_;
  AttentionInput input_;
  at::Tensor expected_;
};

TEST_F(TrainableAttentionTest, EqualsTheInferenceCodeAndHasTheGradientsOfTheDefinition) {
  const at::Tensor seen = visible(), direction = at::randn({kTokens, kHeads, kHeadDim});
  std::vector<at::Tensor> leaves;
  for (at::Tensor* tensor : {&input_.q, &input_.k, &input_.v}) {
    *tensor = tensor->detach().requires_grad_(true);
    leaves.push_back(*tensor);
  }
  const at::Tensor out = TrainableSparseAttention(model_, kSparseFrom).forward(input_);
  EXPECT_LT(max_difference(out, expected_), 1e-5);
  (out * direction).sum().backward();
  std::vector<at::Tensor> gradients;
  for (at::Tensor& leaf : leaves) {
    gradients.push_back(leaf.grad().clone());
    leaf.mutable_grad() = at::Tensor();
  }
  const at::Tensor plain = plain_attention(input_.q, input_.k, input_.v, 0.25, seen);
  EXPECT_LT(max_difference(out, plain), 1e-5);
  (plain * direction).sum().backward();
  for (size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_LT(max_difference(gradients[i], leaves[i].grad()), 2e-5) << i;
    EXPECT_GT(gradients[i].abs().max().item<double>(), 0.1);
  }
}

// With a tail: one more key, whose score is the index's and whose value is a mean of values.
TEST_F(TrainableAttentionTest, HasTheGradientsOfATail) {
  model_.selection.tail_block = 7;
  const at::Tensor seen = visible(), direction = at::randn({kTokens, kHeads, kHeadDim});
  const LayerIndexer& layer = model_.indexer.layers[0];
  std::vector<at::Tensor> leaves;
  for (at::Tensor* tensor : {&input_.q, &input_.k, &input_.v}) {
    *tensor = tensor->detach().requires_grad_(true);
    leaves.push_back(*tensor);
  }
  const at::Tensor out = TrainableSparseAttention(model_, kSparseFrom).forward(input_);
  EXPECT_LT(max_difference(out, expected_), 1e-5);
  const auto sparse_rows = [&](const at::Tensor& all) {
    return (all * direction).narrow(0, kSparseFrom, kTokens - kSparseFrom);
  };
  sparse_rows(out).sum().backward();
  std::vector<at::Tensor> gradients;
  for (at::Tensor& leaf : leaves) {
    gradients.push_back(leaf.grad().clone());
    leaf.mutable_grad() = at::Tensor();
  }

  at::Tensor sum = at::zeros({}, at::kFloat);
  const at::Tensor z = layer.scores(layer.queries(input_.q_pre_rope), layer.keys(input_.k_pre_rope));
  const at::Tensor gate = layer.gate(input_.q_pre_rope);
  for (int64_t head = 0; head < kHeads; ++head) {
    const at::Tensor k = input_.k.select(1, head / 3), v = input_.v.select(1, head / 3);
    // Every token's value in the tail: the mean of its block, the tokens after the last whole block left as they are.
    const int64_t blocks = (kTokens - 3) / 7;
    const at::Tensor means = v.narrow(0, 3, blocks * 7).view({blocks, 7, kHeadDim}).mean(1).repeat_interleave(7, 0);
    const at::Tensor tail_values = at::cat({v.narrow(0, 0, 3), means, v.slice(0, 3 + blocks * 7)});
    for (int64_t row = kSparseFrom; row < kTokens; ++row) {
      const at::Tensor exact = k.matmul(input_.q[row][head]) * 0.25;
      const at::Tensor shown = seen[head][row];
      at::Tensor scores = exact.masked_fill(shown.logical_not(), -1e30), values = v;
      if (head % 2 == 1) {
        const at::Tensor key = at::arange(kTokens);
        const at::Tensor left = key.ge(3).logical_and(key.le(row - 20)).logical_and(shown.logical_not());
        const at::Tensor guessed = (z[head / 2][row] + gate[head / 2][row]).masked_fill(left.logical_not(), -1e30);
        scores = at::cat({scores, guessed});
        values = at::cat({v, tail_values});
      }
      sum = sum + scores.softmax(0).matmul(values).dot(direction[row][head]);
    }
  }
  sum.backward();
  for (size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_LT(max_difference(gradients[i], leaves[i].grad()), 5e-5) << i;
    EXPECT_GT(gradients[i].abs().max().item<double>(), 0.1);
  }
}

TEST_F(TrainableAttentionTest, RefusesRowsWithoutFarKeys) {
  EXPECT_THROW(TrainableSparseAttention(model_, 22), std::logic_error);
  EXPECT_NO_THROW(TrainableSparseAttention(model_, 23));
}

}  // namespace
}  // namespace retrosparse
