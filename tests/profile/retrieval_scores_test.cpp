#include "profile/retrieval_scores.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/plain_attention.h"
#include "model/tiny_model.h"

namespace retrosparse {
namespace {

// Recomputes R_h from whole attention matrices.
class WholeAttention : public AttentionObserver {
 public:
  explicit WholeAttention(const NeedlePair& needles) : pair(needles) {}
  void observe(const AttentionInput& input) override {
    const int64_t tokens = input.q.size(0), group_size = input.q.size(1) / input.k.size(1);
    const at::Tensor keys = input.k.to(at::kDouble).repeat_interleave(group_size, 1);
    const at::Tensor scores =
        at::matmul(input.q.to(at::kDouble).transpose(0, 1), keys.permute({1, 2, 0})) * input.scale;
    const at::Tensor visible = visible_keys(tokens, tokens, tokens, 0);
    const at::Tensor shares = at::softmax(scores.masked_fill(visible.logical_not(), -1e300), -1);
    mass.push_back(
        shares.slice(1, pair.second.begin, pair.second.end).slice(2, pair.first.begin, pair.first.end).sum(2).mean(1));
  }
  const NeedlePair& pair;
  std::vector<at::Tensor> mass;  // [layer] of [H]
};

NeedlePair needles_in(int64_t tokens, int64_t early, int64_t late, int64_t length, uint64_t seed) {
  at::manual_seed(seed);
  at::Tensor ids = at::randint(61, {tokens}, at::kLong);
  ids.slice(0, late, late + length).copy_(ids.slice(0, early, early + length));
  return {{ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + tokens},
          {early, early + length},
          {late, late + length}};
}

TEST(MeasureRetrieval, EqualsTheDefinitionForAnyChunk) {
  const at::NoGradGuard no_grad;
  const TemporaryFolder folder;
  write_tiny_checkpoint(folder.path());
  const Model model = Model::load(folder.path(), at::kCPU, at::kFloat);
  const std::vector<NeedlePair> documents{needles_in(120, 4, 100, 9, 1), needles_in(90, 10, 70, 5, 2)};
  std::vector<at::Tensor> expected;  // [document] of [L, H]
  for (const NeedlePair& document : documents) {
    WholeAttention observer(document);
    model.forward(document.ids, {.observers = {&observer}});
    expected.push_back(at::stack(observer.mass));
  }
  for (const int64_t chunk : {1000, 103, 7}) {
    const RetrievalScores scores = measure_retrieval(model, documents, chunk);
    for (size_t layer = 0; layer < 3; ++layer) {
      for (size_t head = 0; head < 6; ++head) {
        const auto of = [&](size_t document) {
          return expected[document][static_cast<int64_t>(layer)][static_cast<int64_t>(head)].item<double>();
        };
        EXPECT_NEAR(scores.each[0][layer][head], of(0), 1e-5);
        EXPECT_NEAR(scores.each[1][layer][head], of(1), 1e-5);
        EXPECT_NEAR(scores.mean[layer][head], (of(0) + of(1)) / 2, 1e-5);
        EXPECT_NEAR(scores.spread[layer][head], std::abs(of(0) - of(1)) / std::sqrt(2.0), 1e-5);
      }
    }
  }
}

TEST(MeasureRetrieval, RefusesNeedlesThatOverlapOrLeaveTheDocument) {
  const TemporaryFolder folder;
  write_tiny_checkpoint(folder.path());
  const Model model = Model::load(folder.path(), at::kCPU, at::kFloat);
  for (const NeedlePair& pair :
       {needles_in(50, 4, 40, 10, 1), NeedlePair{std::vector<int64_t>(50, 1), {4, 14}, {45, 55}},
        NeedlePair{std::vector<int64_t>(50, 1), {4, 14}, {8, 18}}}) {
    if (pair.second.begin == 40) {
      EXPECT_NO_THROW(measure_retrieval(model, {&pair, 1}, 64));
    } else {
      EXPECT_THROW(measure_retrieval(model, {&pair, 1}, 64), Error);
    }
  }
}

const HeadTable kScores{{0.1, 0.9, 0.2, 0.0}, {0.0, 0.3, 0.8, 0.7}};

TEST(ChooseRetrievalHeads, RanksAllLayersTogether) {
  using Chosen = std::vector<std::vector<int64_t>>;
  EXPECT_EQ(choose_retrieval_heads(kScores, 3.0 / 8, HeadPolicy::kQueryHead, 2), (Chosen{{1}, {2, 3}}));
  EXPECT_EQ(choose_retrieval_heads(kScores, 0.001, HeadPolicy::kQueryHead, 2), (Chosen{{1}, {}}));
  EXPECT_EQ(choose_retrieval_heads(kScores, 3.0 / 8, HeadPolicy::kKvGroup, 2), (Chosen{{0, 1}, {2, 3}}));
  EXPECT_EQ(choose_retrieval_heads(kScores, 1, HeadPolicy::kQueryHead, 2), (Chosen{{0, 1, 2, 3}, {0, 1, 2, 3}}));
}

TEST(RetrievalScores, StabilityIsTheShareOfHeadsThatEveryDocumentAgreesOn) {
  RetrievalScores scores;
  scores.each = {{{0.9, 0.8, 0.1, 0.0}}, {{0.9, 0.0, 0.8, 0.1}}};
  scores.mean = {{0.9, 0.4, 0.45, 0.05}};
  EXPECT_DOUBLE_EQ(scores.stability(1), 1);
  EXPECT_DOUBLE_EQ(scores.stability(2), 0.75);  // heads 0 and 2: one document has head 1 instead
}

}  // namespace
}  // namespace retrosparse
