#include <gtest/gtest.h>

#include <tuple>

#include "base/error.h"
#include "model/dense_attention.h"
#include "model/plain_attention.h"
#include "model/planned_attention.h"

namespace retrosparse {
namespace {

struct Tensors {
  at::Tensor q, k, v;
};

Tensors random_tensors(int64_t num_queries, int64_t num_keys, int64_t heads, int64_t groups, int64_t head_dim) {
  return {at::randn({num_queries, heads, head_dim}), at::randn({num_keys, groups, head_dim}),
          at::randn({num_keys, groups, head_dim})};
}

constexpr double kScale = 0.2;

TEST(Attend, EqualsTheDefinitionWithOddHeadCounts) {
  at::manual_seed(1);
  const Tensors t = random_tensors(37, 61, 15, 5, 24);
  at::Tensor lse;
  const at::Tensor expected = plain_attention(t.q, t.k, t.v, kScale, at::ones({37, 61}, at::kBool), &lse);
  const PartialAttention got = attend(t.q, t.k, t.v, kScale);
  EXPECT_LT(max_difference(got.out, expected), 1e-5);
  EXPECT_LT(max_difference(got.lse, lse), 1e-5);
}

TEST(Attend, MergesDisjointParts) {
  at::manual_seed(2);
  const Tensors t = random_tensors(9, 40, 6, 2, 16);
  const PartialAttention whole = attend(t.q, t.k, t.v, kScale);
  const PartialAttention merged = merge(attend(t.q, t.k.narrow(0, 0, 11), t.v.narrow(0, 0, 11), kScale),
                                        attend(t.q, t.k.narrow(0, 11, 29), t.v.narrow(0, 11, 29), kScale));
  EXPECT_LT(max_difference(merged.out, whole.out), 1e-6);
  EXPECT_LT(max_difference(merged.lse, whole.lse), 1e-6);
}

TEST(DenseAttention, ChunkSeesCachedTokensAndItsOwnPast) {
  at::manual_seed(3);
  for (const int64_t num_queries : {1, 2, 17, 50}) {
    const Tensors t = random_tensors(num_queries, 50, 4, 2, 32);
    at::Tensor lse;
    const at::Tensor expected = plain_attention(t.q, t.k, t.v, kScale, visible_keys(num_queries, 50, 50, 0), &lse);
    const PartialAttention got = attend_dense(t.q, t.k, t.v, kScale);
    EXPECT_LT(max_difference(got.out, expected), 1e-5) << num_queries << " queries";
    EXPECT_LT(max_difference(got.lse, lse), 1e-5) << num_queries << " queries";
  }
}

// Every window from 1 to beyond the sequence and every sink count from 0 to 8, for prefill, a chunk and one token.
class LocalAttention : public testing::TestWithParam<int64_t> {};

TEST_P(LocalAttention, EqualsAMaskedSoftmax) {
  const int64_t num_keys = 300, num_queries = GetParam();
  at::manual_seed(4);
  const Tensors t = random_tensors(num_queries, num_keys, 6, 2, 16);
  for (const int64_t window : {1, 2, 3, 31, 64, 65, 127, 128, 200, 299, 300, 301, 1000}) {
    for (int64_t sinks = 0; sinks <= 8; ++sinks) {
      at::Tensor lse;
      const at::Tensor expected =
          plain_attention(t.q, t.k, t.v, kScale, visible_keys(num_queries, num_keys, window, sinks), &lse);
      const PartialAttention got = attend_local(t.q, t.k, t.v, kScale, {sinks, window});
      ASSERT_LT(max_difference(got.out, expected), 1e-5) << "window " << window << ", " << sinks << " sinks";
      ASSERT_LT(max_difference(got.lse, lse), 1e-5) << "window " << window << ", " << sinks << " sinks";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Queries, LocalAttention, testing::Values(1, 2, 129, 300), testing::PrintToStringParamName());

TEST(LocalAttention, GradientsEqualThoseOfTheMaskedSoftmax) {
  at::manual_seed(5);
  const Tensors t = random_tensors(200, 200, 4, 2, 16);
  const at::Tensor weight = at::randn({200, 4, 16});
  const auto gradients = [&](const auto& forward) {
    std::vector<at::Tensor> leaves{t.q.clone(), t.k.clone(), t.v.clone()};
    for (at::Tensor& leaf : leaves) {
      leaf.requires_grad_(true);
    }
    (forward(leaves[0], leaves[1], leaves[2]) * weight).sum().backward();
    return std::vector<at::Tensor>{leaves[0].grad(), leaves[1].grad(), leaves[2].grad()};
  };
  const auto expected = gradients([](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return plain_attention(q, k, v, kScale, visible_keys(200, 200, 40, 3));
  });
  const auto got = gradients([](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return attend_local(q, k, v, kScale, {3, 40}).out;
  });
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_LT(max_difference(got[i], expected[i]), 1e-4) << "gradient " << i;
  }
}

AttentionInput input_of(const Tensors& t) {
  AttentionInput input;
  input.layer = 0;
  input.first_position = t.k.size(0) - t.q.size(0);
  input.scale = kScale;
  input.q = t.q;
  input.k = t.k;
  input.v = t.v;
  return input;
}

TEST(PlannedAttention, GivesEveryHeadItsOwnView) {
  // Groups of three heads with none, one, two or three dense heads, and two different windows.
  const LocalWindow narrow{4, 20}, wide{0, 70};
  const HeadWindows windows{narrow,       narrow,       narrow, std::nullopt, narrow,
                            narrow,       std::nullopt, narrow, std::nullopt, std::nullopt,
                            std::nullopt, std::nullopt, wide,   narrow,       std::nullopt};
  at::manual_seed(6);
  for (const int64_t num_queries : {1, 90, 150}) {
    const Tensors t = random_tensors(num_queries, 150, 15, 5, 16);
    PlannedAttention attention({windows}, 5, at::kCPU);
    const at::Tensor got = attention.forward(input_of(t));
    for (int64_t head = 0; head < 15; ++head) {
      const LocalWindow view = windows[static_cast<size_t>(head)].value_or(LocalWindow{0, 150});
      const at::Tensor expected =
          plain_attention(t.q.narrow(1, head, 1), t.k.narrow(1, head / 3, 1), t.v.narrow(1, head / 3, 1), kScale,
                          visible_keys(num_queries, 150, view.window, view.sink_tokens));
      EXPECT_LT(max_difference(got.narrow(1, head, 1), expected), 1e-5)
          << "head " << head << ", " << num_queries << " queries";
    }
  }
}

TEST(PlannedAttention, AllDenseEqualsDense) {
  at::manual_seed(7);
  const Tensors t = random_tensors(80, 80, 8, 2, 16);
  PlannedAttention planned({HeadWindows(8)}, 2, at::kCPU);
  EXPECT_TRUE(at::equal(planned.forward(input_of(t)), attend_dense(t.q, t.k, t.v, kScale).out));
}

TEST(PlannedAttention, RefusesAnEmptyWindowByLayerAndHead) {
  const std::vector<HeadWindows> windows{HeadWindows(2), {LocalWindow{4, 8}, LocalWindow{4, 0}}};
  try {
    PlannedAttention attention(windows, 1, at::kCPU);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_STREQ(
        error.what(),
        "layer 1 head 1: not a window: expected window >= 1 and sink_tokens >= 0, found window 0, sink_tokens 4");
  }
}

}  // namespace
}  // namespace retrosparse
