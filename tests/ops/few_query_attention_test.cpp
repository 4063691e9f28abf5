#include "ops/few_query_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace retrosparse::ops {
namespace {

// By the definition, in float64.
std::pair<at::Tensor, at::Tensor> by_definition(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                double scale) {
  const int64_t group_size = q.size(1) / k.size(1);
  const at::Tensor keys = k.to(at::kDouble).repeat_interleave(group_size, 1).transpose(0, 1);    // [H, S, D]
  const at::Tensor values = v.to(at::kDouble).repeat_interleave(group_size, 1).transpose(0, 1);  // [H, S, D]
  const at::Tensor scores = at::matmul(q.to(at::kDouble).transpose(0, 1), keys.transpose(1, 2)) * scale;
  return {at::matmul(scores.softmax(-1), values).transpose(0, 1), scores.logsumexp(-1).transpose(0, 1)};
}

double max_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b).abs().max().item<double>();
}

TEST(FewQueryAttention, EqualsTheDefinition) {
  at::manual_seed(3);
  for (const int64_t num_keys : {1, 3, 127, 129, 1024, 1025, 5003}) {
    for (const int64_t head_dim : {8, 50, 64, 128}) {
      for (const int64_t num_queries : {1, 5}) {
        // Strided as a model's are: q out of a wider row, k and v out of a cache with room to grow.
        const at::Tensor q = at::randn({num_queries, 9, 2 * head_dim}).narrow(2, head_dim / 2, head_dim);
        const at::Tensor k = at::randn({num_keys + 7, 3, head_dim}).narrow(0, 0, num_keys);
        const at::Tensor v = at::randn({3, num_keys, head_dim}).transpose(0, 1);
        const auto [out, lse] = few_query_attention(q, k, v, 0.3);
        const auto [expected_out, expected_lse] = by_definition(q, k, v, 0.3);
        EXPECT_LT(max_difference(out, expected_out), 5e-6) << num_keys << " keys, head_dim " << head_dim;
        EXPECT_LT(max_difference(lse, expected_lse), 5e-6) << num_keys << " keys, head_dim " << head_dim;
      }
    }
  }
}

TEST(FewQueryAttention, DoesNotDependOnTheThreads) {
  const at::Tensor q = at::randn({1, 4, 64}), k = at::randn({4000, 2, 64}), v = at::randn({4000, 2, 64});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto [out, lse] = few_query_attention(q, k, v, 0.125);
  at::set_num_threads(3);
  const auto [out3, lse3] = few_query_attention(q, k, v, 0.125);
  at::set_num_threads(threads);
  EXPECT_TRUE(out.equal(out3));
  EXPECT_TRUE(lse.equal(lse3));
}

TEST(FewQueryAttention, StaysFiniteForHugeScores) {
  const at::Tensor q = at::full({1, 1, 4}, 1e4), v = at::arange(12, at::kFloat).reshape({3, 1, 4});
  const at::Tensor k = at::tensor({-1e4f, 1e4f, -1e4f}).reshape({3, 1, 1}).expand({3, 1, 4}).contiguous();
  const auto [out, lse] = few_query_attention(q, k, v, 1.0);
  EXPECT_TRUE(out.equal(v.narrow(0, 1, 1)));
  EXPECT_FLOAT_EQ(lse.item<float>(), 4e8f);
}

TEST(FewQueryAttention, RefusesWhatDoesNotFit) {
  const at::Tensor q = at::randn({1, 4, 8}), k = at::randn({5, 2, 8});
  EXPECT_THROW(few_query_attention(q, at::randn({5, 3, 8}), at::randn({5, 3, 8}), 1), std::invalid_argument);
  EXPECT_THROW(few_query_attention(q, at::randn({5, 2, 4}), at::randn({5, 2, 4}), 1), std::invalid_argument);
  EXPECT_THROW(few_query_attention(q, k, at::randn({6, 2, 8}), 1), std::invalid_argument);
  EXPECT_THROW(few_query_attention(q, at::randn({0, 2, 8}), at::randn({0, 2, 8}), 1), std::invalid_argument);
  EXPECT_THROW(few_query_attention(q.to(at::kDouble), k, k, 1), std::invalid_argument);
}

TEST(FewQueryAttention, ServesFewRowsWithoutGradients) {
  const at::Tensor one = at::randn({1, 4, 8}), many = at::randn({100, 4, 8});
  EXPECT_TRUE(serves_few_queries(one, many, many));
  EXPECT_FALSE(serves_few_queries(many, many, many));
  EXPECT_FALSE(serves_few_queries(one.to(at::kBFloat16), many, many));
  EXPECT_FALSE(serves_few_queries(one, many, many.clone().requires_grad_()));
}

}  // namespace
}  // namespace retrosparse::ops
