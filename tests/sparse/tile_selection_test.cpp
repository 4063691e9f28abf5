// The choice of tiles against the reference of the kernel that makes the same choice.
#include "sparse/tile_selection.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <retrosparse_kernels/tile_selection.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace retrosparse {
namespace {

constexpr int64_t kHeads = 3, kGroups = 2, kIndexDim = 16;
constexpr LocalWindow kLocal{3, 90};

struct Case {
  int64_t first_position, num_queries;
  double tile_share;

  // Of each head: heads may differ.
  std::vector<double> shares() const { return {tile_share, tile_share / 3, std::min(2 * tile_share, 1.0)}; }
};

class TileSelectionTest : public testing::TestWithParam<Case> {
 protected:
  TileSelectionTest() : num_keys_(GetParam().first_position + GetParam().num_queries) {
    at::manual_seed(92);
    const int64_t num_queries = GetParam().num_queries;
    layer_.group_of_head = at::tensor({0, 0, 1}, at::kLong);
    queries_ = at::randn({kHeads, num_queries, kIndexDim}).mul(0.6).to(at::kHalf);
    keys_ = at::randn({kGroups, num_keys_, kIndexDim}).mul(0.6).to(at::kHalf);
    lse_local_ = at::randn({kHeads, num_queries}) + 4;
    gate_ = at::randn({kHeads, num_queries});
  }

  // Calls choose(head, query tile, key tile, margin, selected) with what the reference says.
  template <typename Choose>
  void by_the_reference(Choose choose) const {
    const at::Tensor by_query = queries_.transpose(0, 1).contiguous();                    // [n, R, r]
    const at::Tensor by_head = keys_.index_select(0, layer_.group_of_head).contiguous();  // [R, S, r]
    const std::vector<int32_t> heads{0, 1, 2};
    const std::vector<double> wanted = GetParam().shares();
    const std::vector<float> shares(wanted.begin(), wanted.end());
    const auto num_queries = static_cast<int32_t>(GetParam().num_queries), num_keys = static_cast<int32_t>(num_keys_);
    const kernels::PrefillSequence sequence{0, num_queries, 0, num_keys};
    const int64_t query_tiles = (num_queries + kQueryTile - 1) / kQueryTile;
    const int64_t key_tiles = (num_keys + kKeyTile - 1) / kKeyTile, words = (key_tiles + 31) / 32;
    std::vector<uint32_t> selected(static_cast<size_t>(kHeads * query_tiles * words));
    std::vector<double> margins(selected.size() * 32);
    kernels::TileSelectionParams params;
    params.queries = by_query.const_data_ptr();
    params.keys = by_head.const_data_ptr();
    params.gates = gate_.const_data_ptr<float>();
    params.lse_local = lse_local_.const_data_ptr<float>();
    params.gates_head_stride = params.lse_head_stride = num_queries;
    params.selected_tiles = selected.data();
    params.selected_tiles_head_stride = query_tiles * words;
    params.selected_tiles_query_stride = words;
    params.total_queries = num_queries;
    params.total_keys = num_keys;
    params.num_heads = params.num_selected_heads = params.num_key_value_heads = kHeads;  // each with a copy of its keys
    params.selected_heads = heads.data();
    params.tile_shares = shares.data();
    params.sink_tokens = kLocal.sink_tokens;
    params.window = kLocal.window;
    params.sequences = &sequence;
    params.num_sequences = 1;
    kernels::reference::tile_selection(params, margins.data());
    for (int64_t head = 0; head < kHeads; ++head) {
      for (int64_t query_tile = 0; query_tile < query_tiles; ++query_tile) {
        for (int64_t key_tile = 0; key_tile < key_tiles; ++key_tile) {
          const auto bit = static_cast<size_t>((head * query_tiles + query_tile) * words * 32 + key_tile);
          choose(head, query_tile, key_tile, margins[bit], (selected[bit / 32] >> (bit % 32) & 1) != 0);
        }
      }
    }
  }

  int64_t num_keys_;
  LayerIndexer layer_;
  at::Tensor queries_, keys_, lse_local_, gate_;
};

TEST_P(TileSelectionTest, AgreesWithTheKernelsReference) {
  const SelectedTiles tiles = select_tiles(layer_, {queries_.to(at::kFloat), keys_.to(at::kFloat), lse_local_, gate_},
                                           kLocal, GetParam().shares());
  int64_t near_ties = 0, chosen = 0, far = 0;
  by_the_reference([&](int64_t head, int64_t query_tile, int64_t key_tile, double margin, bool selected) {
    far += std::isfinite(margin) ? 1 : 0;
    chosen += selected ? 1 : 0;
    if (std::abs(margin) < 1e-4) {
      ++near_ties;
    } else if (key_tile >= tiles.selected.size(2)) {
      EXPECT_FALSE(selected);
    } else {
      EXPECT_EQ(tiles.selected[head][query_tile][key_tile].item<bool>(), selected)
          << head << " " << query_tile << " " << key_tile << " margin " << margin;
    }
  });
  EXPECT_EQ(tiles.counts.far, far);
  EXPECT_LE(std::abs(tiles.counts.computed - chosen), near_ties);
  EXPECT_LE(near_ties, 3);
  EXPECT_GT(chosen, far / 20) << "a rule that never says yes would do";
  EXPECT_LT(chosen, far * 19 / 20) << "a rule that never says no would do";
}

// A whole prompt; a late chunk, with so many keys that a query tile's rows are taken in several steps.
INSTANTIATE_TEST_SUITE_P(Prompts, TileSelectionTest,
                         testing::Values(Case{0, 600, 0.1}, Case{0, 600, 0.15}, Case{4736, 300, 0.02},
                                         Case{4736, 300, 0.01}));

}  // namespace
}  // namespace retrosparse
