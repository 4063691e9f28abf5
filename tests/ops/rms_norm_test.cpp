#include "ops/rms_norm.h"

#include <ATen/Parallel.h>
#include <torch/utils.h>

#include "ops/ops_testing.h"

namespace retrosparse::ops {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace): the helpers of these tests

/// What Hugging Face's Llama and Qwen modules compute, operation by operation, in the dtype of the arguments.
at::Tensor hugging_face_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
  const at::Tensor normalised = wide * (wide.pow(2).mean(-1, true) + eps).rsqrt();
  return weight * normalised.to(x.scalar_type());
}

TEST(RmsNorm, AgreesWithHuggingFaceBitForBitUpToTheOrderOfTheSum) {
  at::manual_seed(1);
  for (const at::Device& device : devices()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      for (const int64_t dim : {64, 128, 1000, 4096}) {
        SCOPED_TRACE(::testing::Message() << device << " " << dtype << " " << dim);
        const at::Tensor x = at::randn({33, 7, dim}, device).to(dtype);
        const at::Tensor weight = at::randn({dim}, device).to(dtype);
        const at::Tensor found = rms_norm(x, weight, 1e-6);
        const at::Tensor expected = hugging_face_rms_norm(x, weight, 1e-6);
        ASSERT_EQ(found.sizes(), x.sizes());
        ASSERT_EQ(found.scalar_type(), dtype);
        if (dtype == at::kFloat) {
          EXPECT_LE(relative_error(found, expected), 1e-6);
        } else {
          EXPECT_LE(share_different(found, expected), 1e-3);
          EXPECT_LE(relative_error(found, expected), dtype == at::kHalf ? 0x1p-10 : 0x1p-7);
        }
        EXPECT_LE(relative_error(found, at::rms_norm(x.to(at::kDouble), {dim}, weight.to(at::kDouble), 1e-6)),
                  dtype == at::kFloat  ? 1e-6
                  : dtype == at::kHalf ? 0x1p-10
                                       : 0x1p-7);
      }
    }
  }
}

TEST(RmsNorm, ReadsAnyLayout) {
  at::manual_seed(2);
  for (const at::Device& device : devices()) {
    const at::Tensor fused = at::randn({10, 6, 48}, device);
    const at::Tensor weight = at::randn({2, 32}, device);
    const std::vector<at::Tensor> layouts = {
        fused.slice(2, 5, 37),                        // rows at an even distance
        fused.slice(1, 1, 4).slice(2, 0, 32),         // not at an even distance
        fused.transpose(0, 2).slice(2, 0, 10),        // the last dimension is not contiguous
        fused.slice(2, 0, 32).transpose(0, 1),        // permuted
        fused[0][0].slice(0, 0, 32),                  // one row
        fused[0][0].slice(0, 0, 32).expand({4, 32}),  // the same row four times
    };
    for (const at::Tensor& x : layouts) {
      const at::Tensor w = weight[0].slice(0, 0, x.size(-1));
      EXPECT_LE(relative_error(rms_norm(x, w, 1e-5), hugging_face_rms_norm(x, w, 1e-5)), 1e-6) << x.sizes();
    }
    const at::Tensor strided_weight = at::randn({32, 2}, device).select(1, 0);
    const at::Tensor x = fused.slice(2, 0, 32);
    EXPECT_LE(relative_error(rms_norm(x, strided_weight, 1e-5), hugging_face_rms_norm(x, strided_weight, 1e-5)), 1e-6);
    EXPECT_EQ(rms_norm(at::empty({0, 32}, device), weight[0], 1e-5).sizes(), at::IntArrayRef({0, 32}));
  }
}

TEST(RmsNorm, OneThreadAndManyAgreeBitForBit) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({1001, 256});
  const at::Tensor weight = at::randn({256});
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = rms_norm(x, weight, 1e-5);
  at::set_num_threads(4);
  const at::Tensor many = rms_norm(x, weight, 1e-5);
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one, many));
}

TEST(RmsNorm, GradientsAgreeWithAutogradInFloat64) {
  at::manual_seed(4);
  for (const at::Device& device : devices()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const at::Tensor x = with_gradient(at::randn({5, 9, 96}, device).to(dtype));
      const at::Tensor weight = with_gradient(at::randn({96}, device).to(dtype));
      const at::Tensor upstream = at::randn({5, 9, 96}, device).to(dtype);
      const auto found = gradients(rms_norm(x, weight, 1e-5), upstream, {x, weight});

      const at::Tensor exact_x = with_gradient(x.to(at::kDouble));
      const at::Tensor exact_weight = with_gradient(weight.to(at::kDouble));
      const auto expected = gradients(hugging_face_rms_norm(exact_x, exact_weight, 1e-5), upstream.to(at::kDouble),
                                      {exact_x, exact_weight});
      for (size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(found[i].scalar_type(), dtype);
        EXPECT_LE(relative_error(found[i], expected[i]), dtype == at::kFloat ? 1e-6 : 0x1p-7) << "input " << i;
      }
    }
  }
}

TEST(RmsNorm, GradientAgreesWithFiniteDifferences) {
  at::manual_seed(5);
  const at::Tensor x = with_gradient(at::randn({3, 8}));
  const at::Tensor weight = with_gradient(at::randn({8}));
  const at::Tensor upstream = at::randn({3, 8});
  const auto found = gradients(rms_norm(x, weight, 1e-5), upstream, {x, weight});
  const float step = 1e-2f;
  for (size_t input = 0; input < 2; ++input) {
    at::Tensor numeric = at::zeros_like(found[input]);
    for (int64_t i = 0; i < numeric.numel(); ++i) {
      const auto loss = [&](float shift) {
        std::vector<at::Tensor> moved = {x.detach().clone(), weight.detach().clone()};
        moved[input].view(-1)[i] += shift;
        return (rms_norm(moved[0], moved[1], 1e-5) * upstream).sum().item<float>();
      };
      numeric.view(-1)[i] = (loss(step) - loss(-step)) / (2 * step);
    }
    EXPECT_LE(relative_error(found[input], numeric), 2e-3) << "input " << input;
  }
}

TEST(RmsNorm, RecordsOnlyWhatIsAskedFor) {
  const at::Tensor x = at::randn({2, 8});
  const at::Tensor weight = with_gradient(at::ones({8}));
  EXPECT_FALSE(rms_norm(x, weight.detach(), 1e-5).requires_grad());
  EXPECT_EQ(gradients(rms_norm(x, weight, 1e-5), at::ones({2, 8}), {weight})[0].sizes(), weight.sizes());
  const torch::NoGradGuard no_grad;
  EXPECT_FALSE(rms_norm(x, weight, 1e-5).requires_grad());
}

TEST(RmsNorm, RejectsWhatDoesNotFit) {
  const at::Tensor x = at::randn({2, 8});
  expect_rejected([&] { rms_norm(x, at::ones({7}), 1e-5); }, "weight: expected Float [8], found Float [7] on cpu");
  expect_rejected([&] { rms_norm(x, at::ones({8}).to(at::kHalf), 1e-5); }, "found Half [8]");
  expect_rejected([&] { rms_norm(x, at::Tensor(), 1e-5); }, "an undefined tensor");
  expect_rejected([&] { rms_norm(at::ones({}), at::ones({1}), 1e-5); }, "x: expected [..., dim]");
  expect_rejected([&] { rms_norm(x.to(at::kLong), at::ones({8}).to(at::kLong), 1e-5); }, "found Long [2, 8]");
  expect_rejected([&] { rms_norm(x.to(at::kMeta), at::ones({8}).to(at::kMeta), 1e-5); }, "meta");
  if (torch::cuda::is_available()) {
    expect_rejected([&] { rms_norm(x.to(at::kCUDA), at::ones({8}), 1e-5); }, "weight: expected a tensor on cuda:0");
  }
}

}  // namespace
}  // namespace retrosparse::ops
