#include "ops/decode_attention.h"

#include "ops/masked_attention.h"
#include "ops/ops_testing.h"

namespace retrosparse::ops {
namespace {

using namespace testing;  // NOLINT(google-build-using-namespace): the helpers of these tests
using kernels::HeadMode;

constexpr double kBfloat16Error = 4e-3;
constexpr int64_t kTokens = 500, kQueryTokens = 2, kPage = 64;
const AttentionPlan kPlan = {{HeadMode::kLocal, HeadMode::kSelected, HeadMode::kDense, HeadMode::kSelected}, 4, 70};

/// Two sequences, the second shorter than the window.
struct Problem {
  explicit Problem(const at::Device& device) {
    at::manual_seed(11);
    const auto bfloat16 = [&](at::IntArrayRef sizes) { return at::randn(sizes).to(device, at::kBFloat16); };
    input.q = bfloat16({2, kQueryTokens, 4, 64});
    input.k = bfloat16({2, kTokens, 2, 64});
    input.v = bfloat16({2, kTokens, 2, 64});
    input.key_counts = at::tensor({int{kTokens} - 3, 60}, at::kInt).to(device);
    input.softmax_scale = 0.125;
    input.max_keys = kTokens;
    selection.queries = at::randn({2, kQueryTokens, 2, 16}).to(device);
    selection.gates = at::randn({2, kQueryTokens, 2}).to(device);
    selection.keys = bfloat16({2, 2, kTokens, 16});
    selection.rules = {{0.9f, 8, 64}, {0.5f, 0, 32}};
  }

  /// The same cache in shuffled pages.
  void page() {
    const int64_t pages = (kTokens + kPage - 1) / kPage;
    input.page_table = at::randperm(2 * pages, at::kLong).to(at::kInt).view({2, pages}).to(input.q.device());
    const at::Tensor order = input.page_table.flatten().to(at::kLong).argsort();
    const auto paged = [&](const at::Tensor& tokens_second) {  // [2, tokens, ...] -> [pages, kPage, ...]
      std::vector<int64_t> sizes = tokens_second.sizes().vec();
      sizes[1] = pages * kPage;
      at::Tensor padded = at::full(sizes, NAN, tokens_second.options());
      padded.narrow(1, 0, kTokens).copy_(tokens_second);
      sizes[0] = 2 * pages;
      sizes[1] = kPage;
      return padded.view(sizes).index_select(0, order).contiguous();
    };
    input.k = paged(input.k);
    input.v = paged(input.v);
    selection.keys = paged(selection.keys.transpose(1, 2)).transpose(1, 2).contiguous();
  }

  DecodeInput input;
  DecodeSelectionInput selection;
};

/// What the selected keys make visible, for sequence b.
at::Tensor visible_with(const SelectedKeys& selected, int64_t b, int64_t keys) {
  at::Tensor visible = visible_keys(kPlan, kQueryTokens, keys);
  for (int64_t t = 0; t < kQueryTokens; ++t) {
    for (int64_t r = 0; r < 2; ++r) {
      const int64_t count = selected.counts[b][t][r].item<int64_t>();
      const at::Tensor positions = selected.positions[b][t][r].narrow(0, 0, count).cpu().to(at::kLong);
      visible[2 * r + 1][t].index_fill_(0, positions, true);
    }
  }
  return visible;
}

TEST(DecodeAttention, StepsAgreeWithTheFormulaAndWithOneCall) {
  for (const at::Device& device : devices()) {
    for (const bool pages : {false, true}) {
      SCOPED_TRACE(::testing::Message() << device << (pages ? ", pages" : ""));
      const Problem contiguous(device);
      Problem problem = contiguous;
      if (pages) {
        problem.page();
      }
      DecodeWorkspace workspace;
      DecodeOutput output = decode_resident(problem.input, kPlan, workspace);
      const SelectedKeys selected = decode_selection(problem.selection, problem.input, kPlan, output.lse, workspace);
      decode_selected(problem.input, kPlan, selected, output, workspace);
      const DecodeOutput whole = decode_attention(problem.input, kPlan, &selected, workspace);
      const SparseDecodeOutput step = sparse_decode(problem.input, problem.selection, kPlan, workspace);
      EXPECT_TRUE(step.selected.counts.equal(selected.counts));
      EXPECT_TRUE(step.attention.o.equal(output.o)) << "the step is not what its parts are";
      EXPECT_GT(selected.counts[0].sum().item<int64_t>(), 0);
      EXPECT_EQ(selected.counts[1].sum().item<int64_t>(), 0);
      EXPECT_TRUE((selected.far_mass[1] == 0).all().item<bool>());
      for (int64_t b = 0; b < 2; ++b) {
        const int64_t keys = problem.input.key_counts[b].item<int64_t>();
        const DecodeInput& input = contiguous.input;
        const MaskedAttention expected =
            masked_attention(input.q[b], input.k[b].narrow(0, 0, keys), input.v[b].narrow(0, 0, keys),
                             visible_with(selected, b, keys), input.softmax_scale);
        for (const DecodeOutput* found : {&whole, static_cast<const DecodeOutput*>(&output), &step.attention}) {
          EXPECT_LE(norm_error(found->o[b], expected.o), kBfloat16Error);
          EXPECT_LE(norm_error(found->lse[b].transpose(0, 1), expected.lse), 1e-4);
        }
      }
    }
  }
}

/// A step, whose launches share the multiprocessors on an H200, against its parts one after the other.
void expect_step_is_its_parts(const at::Device& device, int64_t length) {
  SCOPED_TRACE(length);
  const AttentionPlan plan = {kPlan.head_modes, 4, 2000};
  AttentionPlan local = plan;
  local.head_modes[2] = HeadMode::kLocal;
  Problem problem(device);
  const at::TensorOptions options = problem.input.q.options();
  problem.input.q = at::randn({1, 1, 4, 64}, options);
  problem.input.k = at::randn({1, length, 2, 64}, options);
  problem.input.v = at::randn({1, length, 2, 64}, options);
  problem.input.key_counts = at::tensor({static_cast<int>(length) - 1}, at::kInt).to(device);
  problem.input.max_keys = length;
  problem.selection.queries = at::randn({1, 1, 2, 16}, options.dtype(at::kFloat));
  problem.selection.gates = at::randn({1, 1, 2}, options.dtype(at::kFloat));
  problem.selection.keys = at::randn({1, 2, length, 16}, options);
  DecodeWorkspace workspace;
  for (const AttentionPlan& any : {plan, local}) {
    DecodeOutput output = decode_resident(problem.input, any, workspace);
    const SelectedKeys selected = decode_selection(problem.selection, problem.input, any, output.lse, workspace);
    decode_selected(problem.input, any, selected, output, workspace);
    ASSERT_GT(selected.counts.min().item<int>(), 0);
    std::vector<SparseDecodeOutput> steps;  // one right behind the other
    for (int run = 0; run < 100; ++run) {
      steps.push_back(sparse_decode(problem.input, problem.selection, any, workspace));
    }
    for (const SparseDecodeOutput& step : steps) {
      ASSERT_TRUE(step.selected.counts.equal(selected.counts));
      ASSERT_TRUE(step.attention.o.equal(output.o));
    }
  }
}

TEST(DecodeAttention, LongStepsAreWhatTheirPartsAre) {
  const std::vector<at::Device> all = devices();
  if (!all.back().is_cuda()) {
    GTEST_SKIP() << "needs a GPU";
  }
  expect_step_is_its_parts(all.back(), 120'000);  // the candidates follow while the attention still runs
  expect_step_is_its_parts(all.back(), 900'000);  // they wait for it
}

TEST(DecodeAttention, SelectionKeepsToFloorAndCap) {
  for (const at::Device& device : devices()) {
    Problem problem(device);
    problem.selection.rules = {{0.0f, 8, 64}, {1.0f, 0, 32}};
    DecodeWorkspace workspace;
    const DecodeOutput output = decode_resident(problem.input, kPlan, workspace);
    const SelectedKeys selected = decode_selection(problem.selection, problem.input, kPlan, output.lse, workspace);
    EXPECT_TRUE((selected.counts[0].select(1, 0) == 8).all().item<bool>()) << device;
    EXPECT_TRUE((selected.counts[0].select(1, 1) == 32).all().item<bool>()) << device;
  }
}

TEST(DecodeAttention, RejectsWhatDoesNotFit) {
  const Problem good(at::kCPU);
  DecodeWorkspace workspace;
  Problem problem = good;
  problem.input.q = at::zeros({2, 9, 4, 64}, good.input.q.options());
  expect_rejected([&] { decode_resident(problem.input, kPlan, workspace); }, "query_tokens (1 to 8)");
  problem = good;
  problem.input.max_keys = kTokens + 1;
  expect_rejected([&] { decode_resident(problem.input, kPlan, workspace); }, "max_keys: expected 2 to 500");
  problem = good;
  problem.input.key_counts = good.input.key_counts.to(at::kLong);
  expect_rejected([&] { decode_resident(problem.input, kPlan, workspace); }, "key_counts: expected Int [2]");
  expect_rejected([&] { decode_attention(good.input, kPlan, nullptr, workspace); }, "selected");
  problem = good;
  problem.selection.rules.pop_back();
  const DecodeOutput output = decode_resident(good.input, kPlan, workspace);
  expect_rejected([&] { decode_selection(problem.selection, good.input, kPlan, output.lse, workspace); },
                  "rules: expected 2 of them, found 1");
}

}  // namespace
}  // namespace retrosparse::ops
