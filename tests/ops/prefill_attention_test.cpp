#include "ops/prefill_attention.h"

#include "ops/index_projection.h"
#include "ops/masked_attention.h"
#include "ops/ops_testing.h"
#include "ops/tile_selection.h"

namespace retrosparse::ops {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace): the helpers of these tests
using kernels::HeadMode;

constexpr double kBfloat16Error = 4e-3;
const AttentionPlan kPlan = {{HeadMode::kLocal, HeadMode::kSelected, HeadMode::kDense, HeadMode::kSelected}, 4, 70};

PrefillInput random_input(const at::Device& device, int64_t queries, int64_t keys, int64_t head_dim = 64) {
  at::manual_seed(7);
  const auto normal = [&](int64_t tokens, int64_t heads) {
    return at::randn({tokens, heads, head_dim}).to(device, at::kBFloat16);
  };
  return {normal(queries, 4), normal(keys, 2), normal(keys, 2), 1 / std::sqrt(static_cast<double>(head_dim)), {}};
}

/// The tiles as a mask bool [R, queries, keys].
at::Tensor tile_mask(const at::Tensor& tiles, int64_t queries, int64_t keys) {
  const at::Tensor words =
      tiles.to(at::kCPU, at::kLong).repeat_interleave(kernels::kPrefillQueryTile, 1).narrow(1, 0, queries);
  const at::Tensor key_tile = at::arange(keys).div(kernels::kPrefillKeyTile, "floor");
  const at::Tensor word = words.index_select(2, key_tile.div(32, "floor"));
  return word.__rshift__(key_tile.remainder(32)).__and__(1).to(at::kBool);
}

TEST(PrefillAttention, AgreesWithTheFormulaInEveryLayout) {
  for (const at::Device& device : devices()) {
    for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{1, 1}, {300, 300}, {77, 300}}) {
      SCOPED_TRACE(::testing::Message() << device << ", " << queries << " of " << keys);
      PrefillInput input = random_input(device, queries, keys);
      AttentionPlan plan = kPlan;
      std::replace(plan.head_modes.begin(), plan.head_modes.end(), HeadMode::kSelected, HeadMode::kLocal);
      const MaskedAttention expected =
          masked_attention(input.q, input.k, input.v, visible_keys(plan, queries, keys), input.softmax_scale);
      const AttentionOutput found = prefill_attention(input, plan);
      EXPECT_LE(norm_error(found.o, expected.o), kBfloat16Error);
      EXPECT_LE(norm_error(found.lse, expected.lse), 1e-4);
      input.k = input.k.transpose(0, 1).contiguous().transpose(0, 1);  // heads first in memory
      input.q = at::cat({input.q, input.q}, 2).narrow(2, 0, 64);       // rows further apart
      EXPECT_TRUE(found.o.equal(prefill_attention(input, plan).o));
    }
  }
}

TEST(PrefillAttention, SelectedTilesFollowTheIndexAndMerge) {
  constexpr int64_t kTokens = 700;
  for (const at::Device& device : devices()) {
    SCOPED_TRACE(device.str());
    const PrefillInput input = random_input(device, kTokens, kTokens);
    const at::Tensor q_weights = (at::randn({2, 16, 64}) / 8).to(device, at::kBFloat16);
    const at::Tensor k_weights = (at::randn({2, 16, 64}) / 8).to(device, at::kBFloat16);
    const IndexGate gate = {at::zeros({2, 64}, q_weights.options()),
                            at::full({2}, 0.5, q_weights.options().dtype(at::kFloat))};
    const at::TensorOptions half = q_weights.options().dtype(at::kHalf);
    TileSelectionInput index = {at::empty({kTokens, 2, 16}, half),
                                at::empty({2, kTokens, 16}, half),
                                at::empty({2, kTokens}, half.dtype(at::kFloat)),
                                {}};
    index_projection(input.q, q_weights, {1, 3}, index.queries, gate, index.gates);
    at::Tensor cache = index.keys.transpose(0, 1);
    index_projection(input.k, k_weights, {0, 1}, cache);
    EXPECT_TRUE((index.gates == 0.5).all().item<bool>());
    const at::Tensor projected =
        at::einsum("td,id->ti", {input.k.select(1, 1).cpu().to(at::kDouble), k_weights[1].cpu().to(at::kDouble)});
    EXPECT_LE(norm_error(index.keys[1], projected), 1e-3);

    AttentionOutput output = prefill_resident(input, kPlan);
    index.lse_local = output.lse.clone();
    const at::Tensor tiles = select_tiles(index, input, kPlan, {0.2f, 0.7f});
    const at::Tensor chosen = tile_mask(tiles, kTokens, kTokens);
    const int64_t count = chosen.sum().item<int64_t>();
    EXPECT_GT(count, 0);
    EXPECT_GT(chosen[0].sum().item<int64_t>(), chosen[1].sum().item<int64_t>());

    at::Tensor visible = visible_keys(kPlan, kTokens, kTokens);
    const at::Tensor causal = visible[2];  // of the dense head
    visible[1].logical_or_(chosen[0] & causal);
    visible[3].logical_or_(chosen[1] & causal);
    const MaskedAttention expected = masked_attention(input.q, input.k, input.v, visible, input.softmax_scale);
    const AttentionOutput whole = prefill_attention(input, kPlan, tiles);
    prefill_selected(input, kPlan, tiles, output);
    for (const AttentionOutput* found : {&whole, static_cast<const AttentionOutput*>(&output)}) {
      EXPECT_LE(norm_error(found->o, expected.o), 1.5 * kBfloat16Error);
      EXPECT_LE(norm_error(found->lse, expected.lse), 1e-4);
    }
  }
}

TEST(PrefillAttention, RejectsWhatDoesNotFit) {
  const PrefillInput good = random_input(at::kCPU, 30, 30);
  PrefillInput input = good;
  input.v = input.v.narrow(0, 0, 20);
  expect_rejected([&] { prefill_attention(input, {{4, HeadMode::kDense}, 0, 1}); }, "prefill_attention: v: expected");
  input = good;
  input.k = input.v = at::zeros({30, 3, 64}, good.k.options());
  expect_rejected([&] { prefill_attention(input, {{4, HeadMode::kDense}, 0, 1}); }, "divides 4");
  expect_rejected([&] { prefill_attention(good, {{3, HeadMode::kDense}, 0, 1}); }, "plan: expected 4 heads, found 3");
  expect_rejected([&] { prefill_attention(good, {{4, HeadMode::kDense}, 0, 0}); }, "a window of 1 or more");
  expect_rejected([&] { prefill_attention(good, kPlan); }, "selected_tiles: expected Int [2, 1, 1]");
  input = good;
  input.sequences = {{0, 31, 0, 31}};
  expect_rejected([&] { prefill_attention(input, {{4, HeadMode::kDense}, 0, 1}); }, "sequences");
}

}  // namespace
}  // namespace retrosparse::ops
