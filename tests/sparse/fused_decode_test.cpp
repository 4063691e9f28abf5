// Sparse rows by the kernels' operations against the tensor code: on the CPU by their references, on a GPU as models
// run.
#include "sparse/fused_decode.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "ops/kernel_use.h"
#include "sparse/sparse_attention.h"

namespace retrosparse {
namespace {

constexpr int64_t kHeads = 6, kGroups = 2, kHeadDim = 64, kTokens = 700, kWindow = 100, kSinks = 4;

// The rule, and the block of the tail.
class FusedDecodeTest : public testing::TestWithParam<std::tuple<SelectionRule, int64_t>> {
 protected:
  FusedDecodeTest() {
    at::manual_seed(93);
    // A layer with retrieval heads in both groups, one with a single one, one without.
    model_.plan = {kHeads, kGroups, {kSinks, kWindow}, {{1, 3, 5}, {4}, {}}};
    model_.indexer = Indexer::allocate(model_.plan, kHeadDim, 16, at::kCPU);
    for (LayerIndexer& layer : model_.indexer.layers) {
      for (int64_t head = 0; head < layer.num_heads(); ++head) {
        layer.q_proj[head].copy_(at::randn({16, kHeadDim}) * 0.12);
      }
      if (!layer.heads.empty()) {
        // Picks dimensions out of keys that are exact in bfloat16, so that rounding does not decide what is picked.
        layer.k_proj.copy_(at::eye(16, kHeadDim).expand_as(layer.k_proj));
        layer.gate_weight.copy_(at::randn(layer.gate_weight.sizes()) * 0.05);
      }
    }
    std::tie(model_.selection.rule, model_.selection.tail_block) = GetParam();
    model_.selection.gates = {{{0.6123, 2, 30}, {0.9017, 5, 12}, {0.9713, 0, 200}}, {{0.8, 16, 128}}, {}};
    model_.prefill.mode = PrefillMode::kDense;
    const auto random = [](int64_t heads) { return at::randn({kTokens, heads, kHeadDim}).to(at::kBFloat16); };
    const at::Tensor keys = at::randint(-8, 9, {kTokens, kGroups, kHeadDim}).to(at::kBFloat16) * 0.25;
    input_ = {0, 0, 0.125, random(kHeads), keys, random(kHeads), random(kGroups), random(kGroups)};
  }

  AttentionInput rows(int64_t layer, int64_t begin, int64_t count, at::TensorOptions options) const {
    AttentionInput input = input_.rows(begin, count);
    input.layer = layer;
    for (at::Tensor* tensor : {&input.q_pre_rope, &input.k_pre_rope, &input.q, &input.k, &input.v}) {
      *tensor = tensor->to(options);
    }
    return input;
  }

  // The rows from kSparseFrom on, after a prefill of those before: [n, H, D] float32 on the CPU.
  static constexpr int64_t kSparseFrom = 90;
  at::Tensor by_model(const SparseModel& model, int64_t layer, at::TensorOptions options, HeadCounts& counts) const {
    const at::NoGradGuard no_grad;
    SparseAttention attention(model);
    attention.set_sparse_from(kSparseFrom);
    attention.forward(rows(layer, 0, kSparseFrom, options));
    const at::Tensor first = attention.forward(rows(layer, kSparseFrom, 37, options));
    const at::Tensor second = attention.forward(rows(layer, kSparseFrom + 37, kTokens - kSparseFrom - 37, options));
    counts = attention.counts();
    return at::cat({first, second}).to(at::kCPU, at::kFloat);
  }

  SparseModel model_;
  AttentionInput input_;
};

TEST_P(FusedDecodeTest, ReferencesAgreeWithTheTensorCode) {
  for (int64_t index = 0; index < 3; ++index) {
    HeadCounts expected_counts;
    const at::Tensor expected = by_model(model_, index, at::kFloat, expected_counts);
    const auto place = static_cast<size_t>(index);
    const LayerIndexer& layer = model_.indexer.layers[place];
    const AttentionInput input = rows(index, kSparseFrom, kTokens - kSparseFrom, at::kFloat);
    const at::Tensor keys =
        layer.heads.empty() ? at::Tensor() : layer.keys(input_.k_pre_rope.to(at::kFloat)).to(at::kBFloat16);
    ops::DecodeWorkspace workspace;
    const SelectionSettings& selection = model_.selection;
    TailInput tail;
    if (selection.tail_block > 0 && !layer.heads.empty()) {
      ValueMeans means(kSinks, selection.tail_block);
      tail = {layer.queries(input.q_pre_rope), keys.to(at::kFloat), layer.gate(input.q_pre_rope),
              means.update(input.v, layer.group_index), selection.tail_block};
    }
    const DecodedRows got = attend_by_index(input, layer, keys, model_.plan.local,
                                            kernel_rules(selection.rule, selection.gates[place]), tail, workspace);
    EXPECT_LT((got.out - expected).abs().max().item<double>(), 1e-4) << "layer " << index;
    ASSERT_EQ(got.far_tokens.size(0), layer.num_heads());
    for (int64_t head = 0; head < layer.num_heads(); ++head) {
      const SelectionCounts& counts = expected_counts[place][static_cast<size_t>(head)];
      EXPECT_GT(counts.far_tokens, 0);
      EXPECT_EQ(got.far_tokens[head].item<int64_t>(), counts.far_tokens) << "layer " << index << ", head " << head;
    }
  }
}

TEST_P(FusedDecodeTest, KernelsAgreeWithTheTensorCode) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no GPU";
  }
  const ops::ScopedKernelUse all(ops::KernelUse::kAll);
  SparseModel on_gpu = model_;
  on_gpu.indexer = Indexer::allocate(model_.plan, kHeadDim, 16, at::kCUDA);
  on_gpu.indexer.load(model_.indexer.named_tensors());
  const at::TensorOptions options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  for (int64_t index = 0; index < 3; ++index) {
    HeadCounts expected_counts, counts, plain_counts;
    const at::Tensor expected = by_model(model_, index, at::kFloat, expected_counts);
    {
      const at::NoGradGuard no_grad;
      ASSERT_TRUE(serves_decode(rows(index, 0, 9, options), on_gpu.indexer.layers[static_cast<size_t>(index)]));
    }
    const at::Tensor got = by_model(on_gpu, index, options, counts);
    at::Tensor plain;
    {
      const ops::ScopedKernelUse without(ops::KernelUse::kOff);
      plain = by_model(on_gpu, index, options, plain_counts);
    }
    const double plain_error = (plain - expected).abs().mean().item<double>();
    EXPECT_LT((got - expected).abs().mean().item<double>(), 2 * plain_error + 1e-4) << "layer " << index;
    EXPECT_EQ(total(counts).rows, total(expected_counts).rows);
    EXPECT_EQ(total(counts).far_available, total(expected_counts).far_available);
    EXPECT_NEAR(total(counts).mean(), total(expected_counts).mean(), 0.01 * total(expected_counts).mean() + 0.01);
  }
}

std::string name_of_test(const testing::TestParamInfo<std::tuple<SelectionRule, int64_t>>& test) {
  return fmt::format("{}_{}", name_of(std::get<0>(test.param)), std::get<1>(test.param));
}

INSTANTIATE_TEST_SUITE_P(Rules, FusedDecodeTest,
                         testing::Combine(testing::Values(SelectionRule::kTopP, SelectionRule::kTopK),
                                          testing::Values(0, 64)),
                         name_of_test);

TEST(KernelRules, KnowFixedNumbersAndTheGateOnly) {
  const std::vector<GateSettings> gates{{0.9, 64, 1024}};
  EXPECT_TRUE(kernel_rules(SelectionRule::kPaper, gates).empty());
  EXPECT_TRUE(kernel_rules(SelectionRule::kTopP, {{0.9, 64, 1 << 20}}).empty());
  ASSERT_EQ(kernel_rules(SelectionRule::kTopP, gates).size(), 1U);
  EXPECT_EQ(kernel_rules(SelectionRule::kTopP, gates)[0].min_tokens, 64);
  EXPECT_EQ(kernel_rules(SelectionRule::kTopK, gates)[0].min_tokens, 1024);
}

}  // namespace
}  // namespace retrosparse
