// The rule, written out row by row and head by head in double precision, against the blocked tensor code.
#include "sparse/sparse_attention.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "model/plain_attention.h"

namespace retrosparse {
namespace {

constexpr int64_t kLayers = 1, kHeads = 6, kGroups = 2, kHeadDim = 16, kTokens = 150;
constexpr double kScale = 0.25;

using Vector = std::vector<double>;

Vector values_of(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kDouble).contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

double log_sum_exp(const Vector& scores, const std::vector<int64_t>& keys) {
  double sum = 0;
  for (const int64_t key : keys) {
    sum += std::exp(scores[static_cast<size_t>(key)]);
  }
  return std::log(sum);
}

class SparseAttentionTest : public testing::TestWithParam<SelectionRule> {
 protected:
  SparseAttentionTest() {
    at::manual_seed(31);
    model_.plan = {kHeads, kGroups, {3, 20}, {{1, 3, 5}}};
    model_.indexer = Indexer::allocate(model_.plan, kHeadDim, 4, at::kCPU);
    for (const at::Tensor& tensor : model_.indexer.projections()) {
      tensor.copy_(at::randn(tensor.sizes()) * 0.4);
    }
    for (const at::Tensor& tensor : model_.indexer.gates()) {
      tensor.copy_(at::randn(tensor.sizes()) * 0.3);
    }
    model_.selection.rule = GetParam();
    // No p that a sum of equal shares hits exactly: there one rounding more or less decides.
    model_.selection.gates = {{{0.6123, 2, 30}, {0.9017, 5, 12}, {0.9713, 0, 200}}};
    const auto random = [](int64_t heads) { return at::randn({kTokens, heads, kHeadDim}); };
    whole_ = {0, 0, kScale, random(kHeads), random(kGroups), random(kHeads), random(kGroups), random(kGroups)};
  }

  // The keys that a retrieval head (by its place among them) attends to at a position, by the rule's text.
  std::vector<int64_t> keys_by_the_rule(size_t place, int64_t row) const {
    const LayerIndexer& layer = model_.indexer.layers[0];
    const GateSettings& settings = model_.selection.gates[0][place];
    const int64_t head = layer.heads[place], group = head / (kHeads / kGroups);
    const int64_t group_place = group;  // every group holds a retrieval head here
    const at::Tensor index_query = layer.q_proj[static_cast<int64_t>(place)].matmul(whole_.q_pre_rope[row][head]);
    const at::Tensor index_keys = whole_.k_pre_rope.select(1, group).matmul(layer.k_proj[group_place].t());
    const Vector z = values_of(index_keys.matmul(index_query));
    const Vector exact = values_of(whole_.k.select(1, group).matmul(whole_.q[row][head]) * kScale);
    std::vector<int64_t> local, far, all(static_cast<size_t>(row) + 1);
    std::iota(all.begin(), all.end(), 0);
    for (const int64_t key : all) {
      (key < 3 || key > row - 20 ? local : far).push_back(key);
    }
    std::vector<int64_t> order = model_.selection.rule == SelectionRule::kPaper ? all : far;
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return z[static_cast<size_t>(a)] > z[static_cast<size_t>(b)]; });
    size_t count = 0;
    if (model_.selection.rule == SelectionRule::kTopK) {
      count = static_cast<size_t>(settings.max_tokens);
    } else {
      double target = settings.p;
      if (model_.selection.rule == SelectionRule::kTopP && !far.empty()) {
        const double gate = (layer.gate_weight[static_cast<int64_t>(place)].dot(whole_.q_pre_rope[row][head]) +
                             layer.gate_bias[static_cast<int64_t>(place)])
                                .item<double>();
        const double mass = 1 / (1 + std::exp(-(log_sum_exp(z, far) + gate - log_sum_exp(exact, local))));
        target = 1 - (1 - settings.p) / mass;
      }
      const double total = log_sum_exp(z, order);
      for (double sum = 0; count < order.size() && sum < target; ++count) {
        sum += std::exp(z[static_cast<size_t>(order[count])] - total);
      }
      if (model_.selection.rule == SelectionRule::kTopP) {
        count = std::clamp(count, static_cast<size_t>(settings.min_tokens), static_cast<size_t>(settings.max_tokens));
      }
    }
    order.resize(std::min(count, order.size()));
    std::vector<int64_t> keys = local;
    for (const int64_t key : order) {
      if (std::ranges::find(local, key) == local.end()) {
        keys.push_back(key);
      }
    }
    return keys;
  }

  // [kTokens, H, D]: prefill rows dense in retrieval heads, rows from `sparse_from` by the rule.
  at::Tensor expected(int64_t sparse_from) {
    at::Tensor visible = at::zeros({kHeads, kTokens, kTokens}, at::kBool);
    far_picked_ = 0;
    for (int64_t head = 0; head < kHeads; ++head) {
      const auto& heads = model_.plan.retrieval_heads[0];
      const auto found = std::ranges::find(heads, head);
      visible[head].copy_(visible_keys(kTokens, kTokens, found == heads.end() ? 20 : kTokens, 3));
      for (int64_t row = sparse_from; found != heads.end() && row < kTokens; ++row) {
        visible[head][row].zero_();
        const std::vector<int64_t> keys = keys_by_the_rule(static_cast<size_t>(found - heads.begin()), row);
        for (const int64_t key : keys) {
          visible[head][row][key] = true;
        }
        far_picked_ += static_cast<int64_t>(keys.size()) - std::min<int64_t>(row + 1, 23);
      }
    }
    std::vector<at::Tensor> out;
    for (int64_t head = 0; head < kHeads; ++head) {
      out.push_back(plain_attention(whole_.q.narrow(1, head, 1), whole_.k.narrow(1, head / 3, 1),
                                    whole_.v.narrow(1, head / 3, 1), kScale, visible[head]));
    }
    return at::cat(out, 1);
  }

  SparseModel model_;
  AttentionInput whole_;
  int64_t far_picked_ = 0;
};

TEST_P(SparseAttentionTest, SparseRowsOfOnePassFollowTheRule) {
  SparseAttention attention(model_);
  for (const int64_t sparse_from : {0, 23, 60, 149}) {
    attention.set_sparse_from(sparse_from);
    attention.reset_counts();
    const at::Tensor want = expected(sparse_from);
    EXPECT_LT(max_difference(attention.forward(whole_), want), 1e-5) << "sparse from " << sparse_from;
    EXPECT_EQ(total(attention.counts()).far_tokens, far_picked_) << "sparse from " << sparse_from;
  }
}

TEST_P(SparseAttentionTest, DecodingTokenByTokenFollowsTheRule) {
  SparseAttention attention(model_);
  attention.set_sparse_from(100);
  const at::Tensor want = expected(100);
  std::vector<at::Tensor> got{attention.forward(whole_.rows(0, 64)), attention.forward(whole_.rows(64, 36))};
  for (int64_t row = 100; row < kTokens; ++row) {
    got.push_back(attention.forward(whole_.rows(row, 1)));
  }
  EXPECT_LT(max_difference(at::cat(got), want), 1e-5);
}

TEST_P(SparseAttentionTest, ANewSequenceForgetsTheOldOne) {
  SparseAttention attention(model_), fresh(model_);
  attention.forward(whole_);
  attention.set_sparse_from(50);
  fresh.set_sparse_from(50);
  EXPECT_TRUE(at::equal(attention.forward(whole_.rows(0, 120)), fresh.forward(whole_.rows(0, 120))));
}

TEST_P(SparseAttentionTest, EqualScoresGoToTheLowerPosition) {
  model_.indexer.layers[0].k_proj.zero_();  // every score is 0
  SparseAttention attention(model_);
  attention.set_sparse_from(40);
  EXPECT_LT(max_difference(attention.forward(whole_), expected(40)), 1e-5);
}

TEST_P(SparseAttentionTest, TheOraclePicksByTheExactScores) {
  SelectionSettings oracle = SelectionSettings::uniform(model_.plan, SelectionRule::kTopK, {0.9, 7, 7});
  oracle.by_exact_scores = true;
  SparseAttention attention(model_);
  attention.set_selection(oracle);
  attention.set_sparse_from(60);
  int64_t rows_seen = 0;
  attention.observe_picks([&](int64_t, int64_t first_position, const PickedTokens& picked) {
    for (int64_t place = 0; place < 3; ++place) {
      const int64_t head = model_.plan.retrieval_heads[0][static_cast<size_t>(place)];
      for (int64_t i = 0; i < picked.counts.size(1); ++i, ++rows_seen) {
        const int64_t row = first_position + i;
        const at::Tensor exact = whole_.k.select(1, head / 3).slice(0, 3, row - 19).matmul(whole_.q[row][head]);
        EXPECT_TRUE(at::equal(picked.positions[place][i], std::get<1>(exact.topk(7)) + 3)) << head << " " << row;
      }
    }
  });
  attention.forward(whole_);
  EXPECT_EQ(rows_seen, 3 * (kTokens - 60));
}

TEST_P(SparseAttentionTest, CountsPicksByHead) {
  SparseAttention attention(model_);
  attention.set_sparse_from(70);
  std::vector<int64_t> picks(3);
  attention.observe_picks([&](int64_t, int64_t, const PickedTokens& picked) {
    for (int64_t place = 0; place < 3; ++place) {
      picks[static_cast<size_t>(place)] += picked.counts[place].sum().item<int64_t>();
    }
  });
  attention.forward(whole_.rows(0, 100));
  attention.forward(whole_.rows(100, 50));
  HeadCounts twice;
  add(twice, attention.counts());
  add(twice, attention.counts());
  for (size_t place = 0; place < 3; ++place) {
    const SelectionCounts counts = attention.counts()[0][place];
    EXPECT_EQ(counts.far_tokens, picks[place]);
    EXPECT_EQ(counts.rows, kTokens - 70);
    EXPECT_EQ(counts.far_available, (70 - 22 + 149 - 22) * 80 / 2);  // row m has m - 22 far keys
    EXPECT_EQ(twice[0][place].far_tokens, 2 * picks[place]);
  }
  EXPECT_EQ(total(attention.counts()).far_tokens, picks[0] + picks[1] + picks[2]);
}

INSTANTIATE_TEST_SUITE_P(Rules, SparseAttentionTest,
                         testing::Values(SelectionRule::kTopP, SelectionRule::kTopK, SelectionRule::kPaper),
                         [](const auto& rule) { return name_of(rule.param); });

TEST(SelectionRule, NamesRoundTripAndSuggest) {
  for (const SelectionRule rule : {SelectionRule::kTopP, SelectionRule::kTopK, SelectionRule::kPaper}) {
    EXPECT_EQ(selection_rule(name_of(rule)), rule);
  }
  try {
    selection_rule("topk");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean 'top_k'?"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace retrosparse
