#include "ops/rope.h"

#include "ops/ops_testing.h"

namespace retrosparse::ops {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace): the helpers of these tests

/// Hugging Face's apply_rotary_pos_emb for x [..., tokens, heads, head_dim], in the dtype of x.
at::Tensor hugging_face_rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const auto whole = [&](const at::Tensor& table) {
    return at::cat({table, table}, -1).unsqueeze(-2).to(x.scalar_type());
  };
  const auto halves = x.chunk(2, -1);
  return x * whole(cos) + at::cat({-halves[1], halves[0]}, -1) * whole(sin);
}

struct Angles {
  Angles(int64_t tokens, int64_t head_dim, at::Device device) {
    const at::Tensor frequency = at::pow(10000.0, -at::arange(0, head_dim, 2) / static_cast<double>(head_dim));
    const at::Tensor angle = at::outer(at::arange(tokens).to(at::kFloat), frequency);
    cos = angle.cos().to(device, at::kFloat);
    sin = angle.sin().to(device, at::kFloat);
  }
  at::Tensor cos, sin;
};

TEST(Rope, AgreesWithHuggingFace) {
  at::manual_seed(1);
  for (const at::Device& device : devices()) {
    for (const int64_t head_dim : {2, 64, 80, 128}) {
      const Angles angles(57, head_dim, device);
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
        SCOPED_TRACE(::testing::Message() << device << " " << dtype << " " << head_dim);
        const at::Tensor x = at::randn({57, 3, head_dim}, device).to(dtype);
        const at::Tensor found = apply_rope(x, angles.cos, angles.sin);
        const at::Tensor exact = hugging_face_rope(x.to(at::kDouble), angles.cos, angles.sin);
        ASSERT_EQ(found.sizes(), x.sizes());
        ASSERT_EQ(found.scalar_type(), dtype);
        EXPECT_LE(relative_error(found, exact), dtype == at::kFloat ? 1e-6 : dtype == at::kHalf ? 0x1p-11 : 0x1p-8);
        // One rounding instead of five.
        EXPECT_LE(relative_error(found, exact),
                  1.01 * relative_error(hugging_face_rope(x, angles.cos, angles.sin), exact) + 1e-7);
      }
    }
  }
}

TEST(Rope, ReadsAnyLayoutAndBatches) {
  at::manual_seed(2);
  for (const at::Device& device : devices()) {
    const Angles angles(11, 16, device);
    const at::Tensor fused = at::randn({2, 11, 9, 20}, device);
    const std::vector<at::Tensor> layouts = {
        fused[0].slice(2, 0, 16),                                     // padded heads
        fused[1].slice(1, 2, 6).slice(2, 1, 17),                      // some heads of a fused projection
        fused.slice(3, 0, 16),                                        // a batch
        fused.slice(1, 0, 1).slice(3, 0, 16).expand({2, 11, 9, 16}),  // a batch of repeated tokens
        at::randn({2, 9, 11, 16}, device).transpose(1, 2),            // heads before tokens
        at::randn({16, 11, 3}, device).permute({1, 2, 0}),            // the last dimension is not contiguous
    };
    for (const at::Tensor& x : layouts) {
      EXPECT_LE(relative_error(apply_rope(x, angles.cos, angles.sin), hugging_face_rope(x, angles.cos, angles.sin)),
                1e-6)
          << x.sizes() << x.strides();
    }
    EXPECT_EQ(apply_rope(at::empty({11, 0, 16}, device), angles.cos, angles.sin).numel(), 0);
  }
}

TEST(Rope, GradientAgreesWithAutogradInFloat64) {
  at::manual_seed(3);
  for (const at::Device& device : devices()) {
    const Angles angles(13, 32, device);
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const at::Tensor x = with_gradient(at::randn({2, 13, 4, 32}, device).to(dtype));
      const at::Tensor upstream = at::randn({2, 13, 4, 32}, device).to(dtype);
      const auto found = gradients(apply_rope(x, angles.cos, angles.sin), upstream, {x});
      const at::Tensor exact_x = with_gradient(x.to(at::kDouble));
      const auto expected =
          gradients(hugging_face_rope(exact_x, angles.cos, angles.sin), upstream.to(at::kDouble), {exact_x});
      EXPECT_EQ(found[0].scalar_type(), dtype);
      EXPECT_LE(relative_error(found[0], expected[0]), dtype == at::kFloat ? 1e-6 : 0x1p-8);
    }
  }
}

TEST(Rope, RejectsWhatDoesNotFit) {
  const Angles angles(5, 8, at::kCPU);
  const at::Tensor x = at::randn({5, 2, 8});
  expect_rejected(
      [&] {
        apply_rope(at::randn({4, 2, 8}), angles.cos, angles.sin);
      },
      "cos: expected Float [4, 4], found Float [5, 4] on cpu");
  expect_rejected([&] { apply_rope(x, angles.cos, angles.sin.slice(1, 0, 3)); }, "sin: expected Float [5, 4]");
  expect_rejected([&] { apply_rope(x, angles.cos.to(at::kHalf), angles.sin); }, "found Half [5, 4]");
  expect_rejected([&] { apply_rope(at::randn({5, 2, 7}), angles.cos, angles.sin); }, "head_dim even");
  expect_rejected([&] { apply_rope(at::randn({5, 8}), angles.cos, angles.sin); }, "found Float [5, 8]");
  expect_rejected([&] { apply_rope(x.to(at::kDouble), angles.cos, angles.sin); }, "found Double [5, 2, 8]");
}

}  // namespace
}  // namespace retrosparse::ops
