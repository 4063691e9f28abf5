// The tail by its definition, token by token in double precision, against the blocked tensor code.
#include "sparse/tail_attention.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "model/plain_attention.h"
#include "sparse/sparse_attention.h"

namespace retrosparse {
namespace {

constexpr int64_t kHeads = 6, kGroups = 2, kHeadDim = 16, kTokens = 150, kSinks = 3, kWindow = 20;
constexpr double kScale = 0.25;

class TailTest : public testing::TestWithParam<int64_t> {
 protected:
  TailTest() {
    at::manual_seed(31);
    model_.plan = {kHeads, kGroups, {kSinks, kWindow}, {{1, 3, 5}}};
    model_.indexer = Indexer::allocate(model_.plan, kHeadDim, 4, at::kCPU);
    for (const at::Tensor& tensor : model_.indexer.projections()) {
      tensor.copy_(at::randn(tensor.sizes()) * 0.4);
    }
    for (const at::Tensor& tensor : model_.indexer.gates()) {
      tensor.copy_(at::randn(tensor.sizes()) * 0.3);
    }
    model_.selection.gates = {{{0.6123, 2, 30}, {0.9017, 5, 12}, {0.9713, 0, 200}}};
    model_.selection.tail_block = GetParam();
    const auto random = [](int64_t heads) { return at::randn({kTokens, heads, kHeadDim}); };
    input_ = {0, 0, kScale, random(kHeads), random(kGroups), random(kHeads), random(kGroups), random(kGroups)};
  }

  // What the tensor code picks from position `first` on: [place][row] sets of tokens.
  std::vector<std::vector<std::set<int64_t>>> picks(int64_t first) {
    std::vector<std::vector<std::set<int64_t>>> all(3, std::vector<std::set<int64_t>>(kTokens));
    SparseAttention attention(model_);
    attention.set_sparse_from(first);
    attention.observe_picks([&](int64_t, int64_t row, const PickedTokens& picked) {
      for (int64_t place = 0; place < 3; ++place) {
        for (int64_t i = 0; i < picked.counts.size(1); ++i) {
          for (int64_t n = 0; n < picked.counts[place][i].item<int64_t>(); ++n) {
            all[static_cast<size_t>(place)][static_cast<size_t>(row + i)].insert(
                picked.positions[place][i][n].item<int64_t>());
          }
        }
      }
    });
    attention.forward(input_);
    return all;
  }

  // One head's output at a position, float64 [D].
  at::Tensor by_definition(int64_t place, int64_t row, const std::set<int64_t>& picked) const {
    const LayerIndexer& layer = model_.indexer.layers[0];
    const int64_t head = layer.heads[static_cast<size_t>(place)], group = head / (kHeads / kGroups), block = GetParam();
    const auto wide = [](const at::Tensor& tensor) { return tensor.to(at::kDouble); };
    const at::Tensor q = wide(input_.q[row][head]), before = wide(input_.q_pre_rope[row][head]);
    const at::Tensor index_query = wide(layer.q_proj[place]).matmul(before);
    const double gate = (wide(layer.gate_weight[place]).dot(before) + wide(layer.gate_bias[place])).item<double>();
    at::Tensor sum = at::zeros({kHeadDim}, at::kDouble);
    double weights = 0;
    for (int64_t n = 0; n <= row; ++n) {
      const bool far = n >= kSinks && n <= row - kWindow;
      double weight = 0;
      at::Tensor value;
      if (!far || picked.contains(n)) {
        weight = std::exp(kScale * q.dot(wide(input_.k[n][group])).item<double>());
        value = wide(input_.v[n][group]);
      } else {
        const at::Tensor index_key = wide(layer.k_proj[group]).matmul(wide(input_.k_pre_rope[n][group]));
        weight = std::exp(index_query.dot(index_key).item<double>() + gate);
        const int64_t begin = kSinks + (n - kSinks) / block * block;
        value = wide(input_.v.select(1, group).narrow(0, begin, block)).mean(0);
      }
      sum += weight * value;
      weights += weight;
    }
    return sum / weights;
  }

  SparseModel model_;
  AttentionInput input_;
};

TEST_P(TailTest, EqualsTheDefinition) {
  for (const int64_t first : {0, 23, 60}) {
    const auto picked = picks(first);
    SparseAttention attention(model_);
    attention.set_sparse_from(first);
    const at::Tensor out = attention.forward(input_);
    model_.selection.tail_block = 0;
    SparseAttention without(model_);
    without.set_sparse_from(first);
    const at::Tensor dropped = without.forward(input_);
    model_.selection.tail_block = GetParam();
    EXPECT_GT(max_difference(out, dropped), 1e-2);
    for (const int64_t row : {first, first + 1, int64_t{77}, int64_t{130}, kTokens - 1}) {
      for (int64_t place = 0; place < 3; ++place) {
        const at::Tensor expected =
            by_definition(place, row, picked[static_cast<size_t>(place)][static_cast<size_t>(row)]);
        EXPECT_LT(max_difference(out[row][2 * place + 1], expected), 1e-5) << "row " << row << ", head " << place;
      }
    }
  }
}

// Chunks, single tokens, and another continuation of the same prompt; also where other settings were tried in between.
TEST_P(TailTest, DoesNotDependOnTheChunks) {
  SparseAttention whole(model_);
  whole.set_sparse_from(50);
  const at::Tensor expected = whole.forward(input_);
  SparseAttention attention(model_);
  attention.set_sparse_from(50);
  attention.forward(input_.rows(0, 61));
  attention.forward(input_.rows(61, 40));
  SelectionSettings other = model_.selection;
  other.tail_block = 0;
  attention.set_selection(other);
  attention.forward(input_.rows(61, 7));
  attention.set_selection(model_.selection);
  AttentionInput different = input_;
  different.v = input_.v + 1;
  attention.forward(different.rows(61, 60));  // will be forgotten
  std::vector<at::Tensor> outs{attention.forward(input_.rows(61, 30))};
  for (int64_t row = 91; row < kTokens; ++row) {
    outs.push_back(attention.forward(input_.rows(row, 1)));
  }
  EXPECT_LT(max_difference(at::cat(outs), expected.narrow(0, 61, kTokens - 61)), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Blocks, TailTest, testing::Values(1, 4, 7, 20));

}  // namespace
}  // namespace retrosparse
