#include "train/adamw.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/plain_attention.h"

namespace retrosparse {
namespace {

// One scalar parameter, by the formulas of the paper in double precision.
struct ScalarAdamW {
  double value, m = 0, v = 0;
  int64_t t = 0;
  void step(double gradient, double lr) {
    ++t;
    value -= lr * 0.01 * value;
    m = 0.9 * m + 0.1 * gradient;
    v = 0.999 * v + 0.001 * gradient * gradient;
    const double n = static_cast<double>(t);
    value -= lr * (m / (1 - std::pow(0.9, n))) / (std::sqrt(v / (1 - std::pow(0.999, n))) + 1e-8);
  }
};

void set_gradient(const at::Tensor& parameter, const at::Tensor& gradient) {
  const_cast<at::Tensor&>(parameter).mutable_grad() = gradient;
}

TEST(AdamW, FollowsThePapersFormulas) {
  AdamW optimizer({at::full({1}, 0.5)}, {.max_grad_norm = 1e9});
  ScalarAdamW expected{0.5};
  for (const double gradient : {0.3, -2.0, 0.0, 5.0, 0.01}) {
    set_gradient(optimizer.parameters()[0], at::full({1}, gradient));
    EXPECT_NEAR(optimizer.step(0.1), std::abs(gradient), 1e-6);
    expected.step(gradient, 0.1);
    EXPECT_NEAR(optimizer.parameters()[0].item<double>(), expected.value, 1e-5);
  }
}

TEST(AdamW, ClipsTheNormOverAllParameters) {
  AdamW optimizer({at::zeros({1}), at::zeros({1})}, {.weight_decay = 0, .max_grad_norm = 1});
  set_gradient(optimizer.parameters()[0], at::full({1}, 3.0));
  set_gradient(optimizer.parameters()[1], at::full({1}, 4.0));
  EXPECT_NEAR(optimizer.step(0.1), 5, 1e-6);
  EXPECT_NEAR(optimizer.state().at("exp_avg.0").item<double>(), 0.1 * 3 / 5, 1e-6);
  EXPECT_NEAR(optimizer.state().at("exp_avg.1").item<double>(), 0.1 * 4 / 5, 1e-6);
}

TEST(AdamW, ANormThatIsNotFiniteChangesNothing) {
  AdamW optimizer({at::full({2}, 0.5)}, {});
  set_gradient(optimizer.parameters()[0], at::tensor({1.0F, std::numeric_limits<float>::quiet_NaN()}));
  EXPECT_FALSE(std::isfinite(optimizer.step(0.1)));
  EXPECT_TRUE(at::equal(optimizer.parameters()[0].detach(), at::full({2}, 0.5)));
}

TEST(AdamW, ResumesToTheSameBits) {
  at::manual_seed(51);
  const std::vector<at::Tensor> gradients{at::randn({20}), at::randn({20}), at::randn({20}), at::randn({20})};
  const at::Tensor start = at::randn({20});
  AdamW whole({start.clone()}, {}), first({start.clone()}, {});
  for (const at::Tensor& gradient : gradients) {
    set_gradient(whole.parameters()[0], gradient.clone());
    whole.step(0.05);
  }
  for (int i = 0; i < 2; ++i) {
    set_gradient(first.parameters()[0], gradients[static_cast<size_t>(i)].clone());
    first.step(0.05);
  }
  AdamW second({first.parameters()[0].detach().clone()}, {});
  second.load_state(first.state());
  for (int i = 2; i < 4; ++i) {
    set_gradient(second.parameters()[0], gradients[static_cast<size_t>(i)].clone());
    second.step(0.05);
  }
  EXPECT_TRUE(at::equal(second.parameters()[0].detach(), whole.parameters()[0].detach()));
  EXPECT_THROW(second.load_state({}), Error);
}

}  // namespace
}  // namespace retrosparse
