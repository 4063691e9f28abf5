#include "ops/linear.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace retrosparse::ops {
namespace {

TEST(Linear, OneRowEqualsTheDefinition) {
  at::manual_seed(4);
  for (const int64_t in : {1, 7, 8, 129, 1000}) {
    for (const int64_t out : {1, 3, 4, 15, 16, 33, 2051}) {
      for (const bool with_bias : {false, true}) {
        const at::Tensor x = at::randn({1, in}), weight = at::randn({out, in});
        const at::Tensor bias = with_bias ? at::randn({out}) : at::Tensor();
        at::Tensor expected = at::matmul(x.to(at::kDouble), weight.to(at::kDouble).t());
        if (with_bias) {
          expected += bias;
        }
        const at::Tensor y = ops::linear(x, weight, bias);
        ASSERT_EQ(y.sizes(), expected.sizes());
        const double tolerance = 2e-7 * static_cast<double>(in) + 2e-6;
        EXPECT_LT((y.to(at::kDouble) - expected).abs().max().item<double>(), tolerance) << in << " to " << out;
      }
    }
  }
}

TEST(Linear, OneRowDoesNotDependOnTheThreads) {
  const at::Tensor x = at::randn({1, 1, 300}), weight = at::randn({1003, 300});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor y = ops::linear(x, weight);
  at::set_num_threads(3);
  const at::Tensor y3 = ops::linear(x, weight);
  at::set_num_threads(threads);
  EXPECT_TRUE(y.equal(y3));
  EXPECT_EQ(y.sizes(), at::IntArrayRef({1, 1, 1003}));
}

// Other shapes, dtypes and memory, and rows whose gradient is wanted, go to libtorch.
TEST(Linear, EverythingElseEqualsLibtorch) {
  const at::Tensor weight = at::randn({5, 6}), bias = at::randn({5});
  for (const at::Tensor& x :
       {at::randn({6}), at::randn({3, 6}), at::randn({2, 1, 6}), at::randn({6, 1}).t(), at::empty({0, 6})}) {
    EXPECT_TRUE(at::allclose(ops::linear(x, weight, bias), at::linear(x, weight, bias), 1e-5, 1e-6));
  }
  const at::Tensor half = at::randn({1, 6}).to(at::kBFloat16);
  EXPECT_TRUE(ops::linear(half, weight.to(at::kBFloat16)).equal(at::linear(half, weight.to(at::kBFloat16))));
  const at::Tensor strided = at::randn({6, 5}).t(), row = at::randn({1, 6});
  EXPECT_TRUE(at::allclose(ops::linear(row, strided), at::linear(row, strided), 1e-5, 1e-6));

  const at::Tensor learned = at::randn({5, 6}).requires_grad_();
  ops::linear(row, learned).sum().backward();
  EXPECT_TRUE(at::allclose(learned.grad(), row.expand({5, 6})));
  EXPECT_ANY_THROW(ops::linear(at::randn({1, 7}), weight));
}

}  // namespace
}  // namespace retrosparse::ops
