// The fast ways on the CPU against the plain ones.
#include "sparse/selection.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "model/plain_attention.h"
#include "sparse/picked_attention.h"
#include "sparse/ranked_keys.h"

namespace retrosparse {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(RankedKeys, OrdersAsAStableSort) {
  at::manual_seed(51);
  const at::Tensor random = at::randint(-40, 40, {1000}).div(8).to(at::kFloat);  // many ties
  std::vector<float> scores(random.const_data_ptr<float>(), random.const_data_ptr<float>() + 1000);
  scores[3] = -0.0F;
  scores[500] = -kInfinity;
  scores[700] = 1e-42F;
  std::vector<int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto score = [&](int64_t key) { return scores[static_cast<size_t>(key)]; };
  std::ranges::stable_sort(order, std::greater<>(), score);
  for (const size_t first : {size_t{0}, size_t{100}, size_t{999}}) {  // how far is sorted at once
    RankedKeys ranked;
    for (size_t key = 0; key < scores.size(); ++key) {
      ranked.add(scores[key], static_cast<int64_t>(key));
    }
    EXPECT_EQ(ranked.position(first), order[first]);
    for (size_t rank = 0; rank < scores.size(); ++rank) {
      ASSERT_EQ(ranked.position(rank), order[rank]) << rank;
      ASSERT_EQ(ranked.score(rank), score(order[rank])) << rank;
    }
  }
}

class SelectTokensTest : public testing::TestWithParam<SelectionRule> {};

TEST_P(SelectTokensTest, RowByRowPicksWhatSortingPicks) {
  at::manual_seed(52);
  const int64_t num_keys = 700, num_rows = 90, window = 30;
  const std::vector<GateSettings> settings{{0.6137, 2, 30}, {0.9017, 5, 120}, {0.9713, 0, 2000}};
  const at::Tensor key = at::arange(num_keys), query = at::arange(num_keys - num_rows, num_keys).unsqueeze(1);
  SelectionInput input;
  input.far = key.ge(4).logical_and(key.le(query - window));
  input.far.narrow(0, 0, 3).zero_();  // rows without far keys
  input.lse_local = at::randn({3, num_rows}) + 3;
  input.gate = at::randn({3, num_rows});
  for (const double step : {0.0, 0.5}) {  // scores as they come, and with many ties
    input.scores = at::randn({3, num_rows, num_keys}) * 2;
    if (step > 0) {
      input.scores = (input.scores / step).round() * step;
    }
    input.scores.masked_fill_(key.gt(query), -kInfinity);
    const PickedTokens fast = select_tokens_row_by_row(input, GetParam(), settings);
    const PickedTokens plain = select_tokens_by_sorting(input, GetParam(), settings);
    EXPECT_TRUE(at::equal(fast.counts, plain.counts));
    EXPECT_TRUE(at::equal(fast.positions, plain.positions));
    EXPECT_GT(fast.counts.max().item<int64_t>(), 64);
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, SelectTokensTest,
                         testing::Values(SelectionRule::kTopP, SelectionRule::kTopK, SelectionRule::kPaper),
                         [](const auto& rule) { return name_of(rule.param); });

TEST(AttendPicked, InPlaceEqualsGatheredAndTheDefinition) {
  at::manual_seed(53);
  for (const int64_t head_dim : {64, 10}) {
    const at::Tensor q = at::randn({5, 4, head_dim}), k = at::randn({50, 2, head_dim}),
                     v = at::randn({50, 2, head_dim});
    const at::Tensor group_of_head = at::tensor({0, 1, 1, 0}, at::kLong);
    PickedTokens picked{at::rand({4, 5, 50}).argsort(-1, false).narrow(-1, 0, 20),
                        at::randint(1, 21, {4, 5}, at::kLong)};
    picked.counts[2][3] = 0;
    const PartialAttention in_place = attend_picked(q, k, v, 0.3, group_of_head, picked);
    const PartialAttention gathered =
        attend_picked(q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble), 0.3, group_of_head, picked);
    EXPECT_LT(max_difference(in_place.out, gathered.out), 1e-5);
    EXPECT_EQ(in_place.lse[3][2].item<float>(), -kInfinity);
    EXPECT_EQ(gathered.lse[3][2].item<float>(), -kInfinity);
    for (int64_t head = 0; head < 4; ++head) {
      for (int64_t row = 0; row < 5; ++row) {
        const int64_t count = picked.counts[head][row].item<int64_t>(), group = group_of_head[head].item<int64_t>();
        if (count == 0) {
          EXPECT_EQ(in_place.out[row][head].abs().max().item<float>(), 0);
          continue;
        }
        const at::Tensor keys = picked.positions[head][row].narrow(0, 0, count);
        const at::Tensor expected =
            plain_attention(q[row].narrow(0, head, 1).unsqueeze(0), k.index_select(0, keys).narrow(1, group, 1),
                            v.index_select(0, keys).narrow(1, group, 1), 0.3, at::ones({1, count}, at::kBool));
        EXPECT_LT(max_difference(in_place.out[row][head], expected[0][0]), 1e-5);
      }
    }
  }
}

}  // namespace
}  // namespace retrosparse
