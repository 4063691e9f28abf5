#include "bench/layer_shape.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace retrosparse::bench {
namespace {

using kernels::HeadMode;

TEST(LayerShape, PlansHoldTheRetrievalHeads) {
  for (const auto& [name, groups] : {std::pair("A", std::vector<int32_t>{0, 1, 2, 3}), {"B", {0, 3, 7}}}) {
    const LayerShape shape = layer_shape(name);
    const ops::AttentionPlan plan = shape.plan(HeadMode::kLocal, HeadMode::kSelected);
    EXPECT_EQ(static_cast<int64_t>(plan.head_modes.size()), shape.num_heads);
    EXPECT_EQ(plan.selected_heads(), shape.retrieval_heads);
    EXPECT_EQ(shape.retrieval_heads.size(), 5U);
    EXPECT_EQ(shape.retrieval_groups(), groups) << name;
    EXPECT_EQ(plan.window, 8192);
  }
}

TEST(LayerShape, RefusesOtherNames) {
  EXPECT_THROW(layer_shape("C"), Error);
}

}  // namespace
}  // namespace retrosparse::bench
