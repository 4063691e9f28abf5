// The rule of prefill by tiles, written out row by row in double precision, against the blocked tensor code.
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/plain_attention.h"
#include "sparse/sparse_attention.h"

namespace retrosparse {
namespace {

constexpr int64_t kHeads = 6, kGroups = 2, kHeadDim = 16, kTokens = 600, kWindow = 90, kSinks = 3;
constexpr double kScale = 0.25;

class TilePrefillTest : public testing::TestWithParam<double> {
 protected:
  TilePrefillTest() {
    at::manual_seed(91);
    model_.plan = {kHeads, kGroups, {kSinks, kWindow}, {{1, 3, 5}}};
    model_.indexer = Indexer::allocate(model_.plan, kHeadDim, 16, at::kCPU);
    for (const at::Tensor& tensor : model_.indexer.projections()) {
      tensor.copy_(at::randn(tensor.sizes()) * 0.13);
    }
    for (const at::Tensor& tensor : model_.indexer.gates()) {
      tensor.copy_(at::randn(tensor.sizes()) * 0.3);
    }
    model_.selection = SelectionSettings::uniform(model_.plan, SelectionRule::kTopK, {0.9, 20, 20});
    model_.prefill = {PrefillMode::kTiles, GetParam()};
    const auto random = [](int64_t heads) { return at::randn({kTokens, heads, kHeadDim}); };
    whole_ = {0, 0, kScale, random(kHeads), random(kGroups), random(kHeads), random(kGroups), random(kGroups)};
  }

  // score - LSE_far + log(m_far) of a query's far keys, [row - kWindow - kSinks + 1].
  at::Tensor log_shares(int64_t place, int64_t row) const {
    const LayerIndexer& layer = model_.indexer.layers[0];
    const int64_t head = layer.heads[static_cast<size_t>(place)], group = head / (kHeads / kGroups);
    const at::Tensor query = whole_.q_pre_rope[row][head].to(at::kDouble);
    const at::Tensor score = whole_.k_pre_rope.select(1, group)
                                 .to(at::kDouble)
                                 .matmul(layer.k_proj[group].to(at::kDouble).t())
                                 .matmul(layer.q_proj[place].to(at::kDouble).matmul(query));
    const at::Tensor exact =
        whole_.k.select(1, group).to(at::kDouble).matmul(whole_.q[row][head].to(at::kDouble)) * kScale;
    const at::Tensor far = score.slice(0, kSinks, row - kWindow + 1);
    const at::Tensor local = at::cat({exact.slice(0, 0, kSinks), exact.slice(0, row - kWindow + 1, row + 1)});
    const at::Tensor gate = layer.gate_weight[place].to(at::kDouble).dot(query) + layer.gate_bias[place];
    const at::Tensor lse_far = far.logsumexp(0);
    return far - lse_far + at::log_sigmoid(lse_far + gate - local.logsumexp(0));
  }

  // [R, query tiles, key tiles]: whether a row of [begin, end) makes the tile count.
  at::Tensor tiles_by_the_rule(int64_t begin, int64_t end) const {
    at::Tensor tiles = at::zeros({3, (kTokens + 127) / 128, (kTokens + 63) / 64}, at::kBool);
    for (int64_t place = 0; place < 3; ++place) {
      for (int64_t row = std::max(begin, kWindow + kSinks); row < end; ++row) {
        const at::Tensor chosen = log_shares(place, row).gt(std::log(GetParam())).nonzero();
        for (int64_t i = 0; i < chosen.size(0); ++i) {
          tiles[place][row / 128][(chosen[i].item<int64_t>() + kSinks) / 64] = true;
        }
      }
    }
    return tiles;
  }

  // [kTokens, H, D] where the prompt is prefilled in chunks that begin at `cuts` (0 first).
  at::Tensor expected(std::vector<int64_t> cuts) const {
    cuts.push_back(kTokens);
    at::Tensor visible = at::zeros({kHeads, kTokens, kTokens}, at::kBool);
    visible.copy_(visible_keys(kTokens, kTokens, kWindow, kSinks));
    const at::Tensor causal = visible_keys(kTokens, kTokens, kTokens, 0);
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      const at::Tensor tiles = tiles_by_the_rule(cuts[i], cuts[i + 1]);
      for (int64_t row = cuts[i]; row < cuts[i + 1]; ++row) {
        const at::Tensor keys = tiles.select(1, row / 128).repeat_interleave(64, 1).narrow(1, 0, kTokens);  // [R, S]
        for (int64_t place = 0; place < 3; ++place) {
          const int64_t head = model_.plan.retrieval_heads[0][static_cast<size_t>(place)];
          visible[head][row].logical_or_(keys[place].logical_and(causal[row]));
        }
      }
    }
    std::vector<at::Tensor> out;
    for (int64_t head = 0; head < kHeads; ++head) {
      out.push_back(plain_attention(whole_.q.narrow(1, head, 1), whole_.k.narrow(1, head / 3, 1),
                                    whole_.v.narrow(1, head / 3, 1), kScale, visible[head]));
    }
    return at::cat(out, 1);
  }

  // One head's output where the far keys outside `tiles` [key tiles] count by the index, float64 [D].
  at::Tensor with_tail(int64_t place, int64_t row, const at::Tensor& tiles, int64_t block) const {
    const LayerIndexer& layer = model_.indexer.layers[0];
    const int64_t head = layer.heads[static_cast<size_t>(place)], group = head / (kHeads / kGroups);
    const auto wide = [](const at::Tensor& tensor) { return tensor.to(at::kDouble); };
    const at::Tensor q = wide(whole_.q[row][head]), before = wide(whole_.q_pre_rope[row][head]);
    const at::Tensor query = wide(layer.q_proj[place]).matmul(before);
    const double gate = (wide(layer.gate_weight[place]).dot(before) + wide(layer.gate_bias[place])).item<double>();
    at::Tensor sum = at::zeros({kHeadDim}, at::kDouble);
    double weights = 0;
    for (int64_t n = 0; n <= row; ++n) {
      const bool far = n >= kSinks && n <= row - kWindow;
      double weight = std::exp(kScale * q.dot(wide(whole_.k[n][group])).item<double>());
      at::Tensor value = wide(whole_.v[n][group]);
      if (far && !tiles[n / 64].item<bool>()) {
        const at::Tensor key = wide(layer.k_proj[group]).matmul(wide(whole_.k_pre_rope[n][group]));
        weight = std::exp(query.dot(key).item<double>() + gate);
        value = wide(whole_.v.select(1, group).narrow(0, kSinks + (n - kSinks) / block * block, block)).mean(0);
      }
      sum += weight * value;
      weights += weight;
    }
    return sum / weights;
  }

  at::Tensor in_chunks(const std::vector<int64_t>& cuts) {
    SparseAttention attention(model_);
    std::vector<at::Tensor> out;
    for (size_t i = 0; i < cuts.size(); ++i) {
      const int64_t end = i + 1 < cuts.size() ? cuts[i + 1] : kTokens;
      out.push_back(attention.forward(whole_.rows(cuts[i], end - cuts[i])));
    }
    counts_ = attention.tile_counts();
    return at::cat(out);
  }

  SparseModel model_;
  AttentionInput whole_;
  TileCounts counts_;
};

TEST_P(TilePrefillTest, FollowsTheRule) {
  EXPECT_LT(max_difference(in_chunks({0}), expected({0})), 1e-5);
  EXPECT_EQ(counts_.computed, tiles_by_the_rule(0, kTokens).sum().item<int64_t>());
  int64_t far = 0;  // tiles with a far key of the query tile's last row
  for (const int64_t last : {127, 255, 383, 511, 599}) {
    for (int64_t key_tile = 0; key_tile < 10; ++key_tile) {
      far += std::max(key_tile * 64, kSinks) <= last - kWindow ? 1 : 0;
    }
  }
  EXPECT_EQ(counts_.far, 3 * far);
  EXPECT_GT(counts_.density(), 0.05) << "a rule that never says yes would do";
  EXPECT_LT(counts_.density(), 0.95) << "a rule that never says no would do";
}

TEST_P(TilePrefillTest, ChunksOfWholeTilesChangeNothing) {
  const at::Tensor whole = in_chunks({0});
  const TileCounts counts = counts_;
  for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{0, 128, 256, 384, 512}, {0, 256, 512}, {0, 384}}) {
    EXPECT_LT(max_difference(in_chunks(cuts), whole), 1e-5);
    EXPECT_EQ(counts_.computed, counts.computed);
    EXPECT_EQ(counts_.far, counts.far);
  }
}

// A query tile that a chunk cuts is chosen for by the rows of the chunk alone.
TEST_P(TilePrefillTest, OddChunksFollowTheRuleTheirRowsSee) {
  for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{0, 300}, {0, 1, 200, 201, 599}}) {
    EXPECT_LT(max_difference(in_chunks(cuts), expected(cuts)), 1e-5);
  }
}

// Rows of all retrieval heads, token by token in double precision.
TEST_P(TilePrefillTest, TheTailEqualsItsDefinition) {
  const at::Tensor dropped = in_chunks({0});
  for (const int64_t block : {1, 7, 64, 90}) {
    model_.selection.tail_block = block;
    const at::Tensor out = in_chunks({0, 256});
    EXPECT_GT(max_difference(out, dropped), 1e-2);
    const at::Tensor tiles = tiles_by_the_rule(0, kTokens);
    for (const int64_t row : {93, 94, 255, 256, 400, 599}) {
      for (int64_t place = 0; place < 3; ++place) {
        EXPECT_LT(max_difference(out[row][2 * place + 1], with_tail(place, row, tiles[place][row / 128], block)), 1e-5)
            << "row " << row << ", head " << place << ", blocks of " << block;
      }
    }
  }
}

TEST_P(TilePrefillTest, DecodeFollowsAsAfterADensePrompt) {
  SparseAttention tiles(model_), dense(model_);
  dense.set_prefill({});
  for (SparseAttention* attention : {&tiles, &dense}) {
    attention->set_sparse_from(500);
  }
  EXPECT_GT(max_difference(tiles.forward(whole_.rows(0, 500)), dense.forward(whole_.rows(0, 500))), 1e-4);
  EXPECT_EQ(max_difference(tiles.forward(whole_.rows(500, 100)), dense.forward(whole_.rows(500, 100))), 0);
}

INSTANTIATE_TEST_SUITE_P(Shares, TilePrefillTest, testing::Values(0.12, 0.07, 0.05));

}  // namespace
}  // namespace retrosparse
