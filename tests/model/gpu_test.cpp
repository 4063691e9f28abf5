// The forward pass on a GPU against the same on the CPU in float64 or float32.
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/dense_attention.h"
#include "model/generate.h"
#include "model/plain_attention.h"
#include "model/planned_attention.h"
#include "model/tiny_model.h"

namespace retrosparse {
namespace {

class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) {
      GTEST_SKIP() << "no GPU";
    }
    at::globalContext().setAllowTF32CuBLAS(false);
    at::manual_seed(21);
  }
};

struct Case {
  at::ScalarType dtype;
  double tolerance;
};
constexpr Case kCases[] = {{at::kFloat, 1e-5}, {at::kBFloat16, 2e-2}, {at::kHalf, 3e-3}};

TEST_F(Gpu, AttentionOfEveryKindEqualsTheDefinition) {
  for (const Case& c : kCases) {
    for (const int64_t num_queries : {1, 130, 300}) {
      const at::TensorOptions options = at::TensorOptions().device(at::kCUDA).dtype(c.dtype);
      const at::Tensor q = at::randn({num_queries, 15, 64}, options), k = at::randn({300, 5, 64}, options),
                       v = at::randn({300, 5, 64}, options);
      for (const LocalWindow view : {LocalWindow{0, 300}, LocalWindow{4, 50}, LocalWindow{0, 1}, LocalWindow{3, 131}}) {
        at::Tensor lse;
        const at::Tensor expected = plain_attention(
            q.cpu(), k.cpu(), v.cpu(), 0.125, visible_keys(num_queries, 300, view.window, view.sink_tokens), &lse);
        const PartialAttention got =
            view.window == 300 ? attend_dense(q, k, v, 0.125) : attend_local(q, k, v, 0.125, view);
        EXPECT_EQ(got.out.scalar_type(), c.dtype);
        EXPECT_LT(max_difference(got.out.cpu(), expected), c.tolerance)
            << c.dtype << ", " << num_queries << " queries, window " << view.window;
        EXPECT_LT(max_difference(got.lse.cpu(), lse), c.tolerance)
            << c.dtype << ", " << num_queries << " queries, window " << view.window;
      }
    }
  }
}

TEST_F(Gpu, PlannedHeadsInOneLaunchEqualTheirOwnDefinition) {
  const at::TensorOptions options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  const LocalWindow local{4, 70};
  const std::vector<HeadWindows> windows = {{local, std::nullopt, local, local, std::nullopt, local}};
  for (const int64_t head_dim : {64, 128}) {
    for (const int64_t num_queries : {2, 129, 700}) {
      const at::Tensor q = at::randn({num_queries, 6, head_dim}, options), k = at::randn({700, 2, head_dim}, options),
                       v = at::randn({700, 2, head_dim}, options);
      const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
      PlannedAttention planned(windows, 2, at::kCUDA);
      const at::Tensor got = planned.forward({0, 700 - num_queries, scale, q, k, q, k, v}).cpu();
      for (int64_t head = 0; head < 6; ++head) {
        const bool is_local = windows[0][static_cast<size_t>(head)].has_value();
        const at::Tensor visible =
            visible_keys(num_queries, 700, is_local ? local.window : 700, is_local ? local.sink_tokens : 0);
        const auto one = [](const at::Tensor& tensor, int64_t which) { return tensor.narrow(1, which, 1).cpu(); };
        const at::Tensor expected = plain_attention(one(q, head), one(k, head / 3), one(v, head / 3), scale, visible);
        EXPECT_LT(max_difference(one(got, head), expected), 2e-2)
            << "head " << head << " of " << head_dim << " dimensions, " << num_queries << " queries";
      }
    }
  }
}

TEST_F(Gpu, ForwardPassEqualsTheCpus) {
  const at::NoGradGuard no_grad;
  const TemporaryFolder folder;
  nlohmann::json json = tiny_config();
  json["moe_intermediate_size"] = 32;  // rows of 16 bytes: the grouped product
  json["head_dim"] = 16;
  write_tiny_checkpoint(folder.path(), json);
  const at::Tensor random = at::randint(61, {200}, at::kLong);
  const at::IntArrayRef ids(random.const_data_ptr<int64_t>(), 200);
  const at::Tensor expected = Model::load(folder.path(), at::kCPU, at::kFloat).forward(ids);
  // Mean errors: in half precision now and then a token goes to another expert, and its error is that of a wrong
  // answer.
  const auto relative_error = [&](const at::Tensor& hidden) {
    return ((hidden.cpu().to(at::kFloat) - expected).abs().mean() / expected.abs().mean()).item<double>();
  };
  for (const Case& c : kCases) {
    const Model model = Model::load(folder.path(), at::kCUDA, c.dtype);
    const double tolerance = c.dtype == at::kFloat ? 1e-5 : c.dtype == at::kHalf ? 1e-2 : 5e-2;
    EXPECT_LT(relative_error(model.forward(ids)), tolerance) << c.dtype;
    KvCache cache = model.make_cache();
    std::vector<at::Tensor> parts;
    model.prefill(ids, 64, {.cache = &cache}, [&](int64_t, const at::Tensor& hidden) { parts.push_back(hidden); });
    EXPECT_LT(relative_error(at::cat(parts)), tolerance) << c.dtype;
  }
}

}  // namespace
}  // namespace retrosparse
