#include "retrosparse_kernels/tile_selection.h"

#include <algorithm>
#include <random>
#include <set>

#include "kernels/attention_testing.h"

namespace retrosparse::kernels {
namespace {

using testing::Array;

struct Case {
  int32_t num_heads = 8;
  int32_t num_key_value_heads = 4;
  std::vector<int32_t> selected_heads = {1, 4, 5};
  std::vector<PrefillSequence> sequences;
  float tile_share = 0.02f;
  int32_t sink_tokens = 4;
  int32_t window = 100;

  int32_t heads() const { return static_cast<int32_t>(selected_heads.size()); }
};

struct Problem {
  explicit Problem(const Case& shape) : shape_(shape), queries(Dtype::kFloat16, 0), keys(queries) {
    std::set<int32_t> found;
    for (const int32_t head : shape.selected_heads) {
      found.insert(head / (shape.num_heads / shape.num_key_value_heads));
    }
    int32_t most_keys = 0;
    for (const PrefillSequence& s : shape.sequences) {
      total_queries = std::max(total_queries, s.query_begin + s.query_count);
      total_keys = std::max(total_keys, s.key_begin + s.key_count);
      most_keys = std::max(most_keys, s.key_count);
      query_tiles += (s.query_count + kPrefillQueryTile - 1) / kPrefillQueryTile;
    }
    words = (most_keys + 2047) / 2048;
    queries = Array::normal(Dtype::kFloat16, int64_t{total_queries} * shape.heads() * kIndexDim, 1);
    keys = Array::normal(Dtype::kFloat16, static_cast<int64_t>(found.size()) * total_keys * kIndexDim, 2);
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    gates.resize(static_cast<size_t>(shape.heads() * total_queries));
    lse_local.resize(static_cast<size_t>(shape.num_heads * total_queries));
    std::generate(gates.begin(), gates.end(), [&] { return normal(random); });
    std::generate(lse_local.begin(), lse_local.end(), [&] { return 5 + normal(random); });
  }

  TileSelectionParams params() const {
    TileSelectionParams p;
    p.gates_head_stride = p.lse_head_stride = total_queries;
    p.selected_tiles_head_stride = query_tiles * words;
    p.selected_tiles_query_stride = words;
    p.total_queries = total_queries;
    p.total_keys = total_keys;
    p.num_heads = shape_.num_heads;
    p.num_key_value_heads = shape_.num_key_value_heads;
    p.num_selected_heads = shape_.heads();
    p.selected_heads = shape_.selected_heads.data();
    p.tile_shares = shares.data();
    p.sink_tokens = shape_.sink_tokens;
    p.window = shape_.window;
    p.sequences = shape_.sequences.data();
    p.num_sequences = static_cast<int32_t>(shape_.sequences.size());
    return p;
  }

  size_t word_count() const { return static_cast<size_t>(shape_.heads() * query_tiles * words); }

  struct Result {
    std::vector<uint32_t> tiles;
    std::vector<float> lse_far;
    std::vector<double> margin;
  };
  Result run_reference() const {
    Result result{std::vector<uint32_t>(word_count()), std::vector<float>(gates.size(), NAN),
                  std::vector<double>(32 * word_count(), -INFINITY)};
    TileSelectionParams p = params();
    p.queries = queries.data();
    p.keys = keys.data();
    p.gates = gates.data();
    p.lse_local = lse_local.data();
    p.selected_tiles = result.tiles.data();
    p.lse_far = result.lse_far.data();
    reference::tile_selection(p, result.margin.data());
    return result;
  }

  const Case& shape_;
  Array queries, keys;
  int32_t total_queries = 0, total_keys = 0;
  int64_t words = 0, query_tiles = 0;
  std::vector<float> gates, lse_local;
  std::vector<float> shares = std::vector<float>(static_cast<size_t>(shape_.heads()), shape_.tile_share);
};

TEST(TileSelection, ReferenceSelectsFarTilesOnly) {
  const Case shape{.sequences = {{0, 700, 0, 700}, {700, 50, 705, 900}}, .tile_share = 1e-9f};
  const Problem problem(shape);
  const Problem::Result result = problem.run_reference();
  int64_t query_tile = 0;
  for (const PrefillSequence& s : shape.sequences) {
    for (int32_t first = 0; first < s.query_count; first += kPrefillQueryTile, ++query_tile) {
      const int32_t last_position =
          s.key_count - s.query_count + std::min(first + kPrefillQueryTile, s.query_count) - 1;
      for (int32_t tile = 0; tile < 32 * problem.words; ++tile) {
        const bool holds_far_keys =
            (tile + 1) * kPrefillKeyTile > shape.sink_tokens && tile * kPrefillKeyTile <= last_position - shape.window;
        const uint32_t word = result.tiles[static_cast<size_t>(query_tile * problem.words + tile / 32)];
        EXPECT_EQ(word >> (tile % 32) & 1u, holds_far_keys ? 1u : 0u)
            << "query tile " << query_tile << ", tile " << tile;
      }
    }
  }
}

TEST(TileSelection, ReferenceSelectsLessAsTheShareGrows) {
  size_t last = SIZE_MAX;
  for (const float share : {0.01f, 0.1f, 0.4f, 0.9f}) {
    const Case shape{.sequences = {{0, 700, 0, 700}}, .tile_share = share};
    size_t count = 0;
    for (const uint32_t word : Problem(shape).run_reference().tiles) {
      count += static_cast<size_t>(__builtin_popcount(word));
    }
    EXPECT_LT(count, last);
    last = count;
  }
}

#ifdef RETROSPARSE_WITH_CUDA
class TileSelectionGpu : public ::testing::Test {
 protected:
  void SetUp() override { RETROSPARSE_REQUIRE_GPU(); }

  static void check(const Case& shape, int reruns = 1) {
    SCOPED_TRACE(::testing::Message() << shape.sequences.size() << " sequences, first of "
                                      << shape.sequences[0].key_count << " keys, window " << shape.window << ", share "
                                      << shape.tile_share);
    const Problem problem(shape);
    const Problem::Result expected = problem.run_reference();
    testing::DeviceArray queries(problem.queries), keys(problem.keys);
    testing::DeviceVector<float> gates(problem.gates), lse_local(problem.lse_local);
    testing::DeviceVector<int32_t> workspace({-3});
    TileSelectionParams p = problem.params();
    p.queries = queries.data();
    p.keys = keys.data();
    p.gates = gates.data();
    p.lse_local = lse_local.data();
    p.workspace = workspace.data();
    std::vector<uint32_t> first;
    for (int run = 0; run <= reruns; ++run) {
      testing::DeviceVector<uint32_t> tiles(std::vector<uint32_t>(problem.word_count(), 0xffffffffu));
      testing::DeviceVector<float> lse_far(std::vector<float>(problem.gates.size(), NAN));
      p.selected_tiles = tiles.data();
      p.lse_far = lse_far.data();
      ASSERT_EQ(sm90::tile_selection(p, nullptr), cudaSuccess);
      const std::vector<uint32_t> found = tiles.fetch();
      compare(problem, expected, found, lse_far.fetch());
      if (run == 0) {
        first = found;
      } else {
        ASSERT_EQ(found, first) << "a rerun differs";
      }
    }
  }

  /// Bits may differ only where the best score is within binary16's resolution of the threshold.
  static void compare(const Problem& problem, const Problem::Result& expected, const std::vector<uint32_t>& found,
                      const std::vector<float>& lse_far) {
    for (size_t i = 0; i < lse_far.size(); ++i) {
      if (std::isfinite(expected.lse_far[i])) {
        ASSERT_NEAR(lse_far[i], expected.lse_far[i], 1e-3) << "lse_far " << i;
      } else if (!std::isnan(expected.lse_far[i])) {
        ASSERT_EQ(lse_far[i], expected.lse_far[i]) << "lse_far " << i;
      }
    }
    int64_t query_tile = 0;
    for (int32_t r = 0; r < problem.shape_.heads(); ++r) {
      for (const PrefillSequence& s : problem.shape_.sequences) {
        const int64_t tiles = (s.key_count + 63) / 64;
        for (int32_t first = 0; first < s.query_count; first += kPrefillQueryTile, ++query_tile) {
          for (int64_t tile = 0; tile < tiles; ++tile) {
            const auto word = static_cast<size_t>(query_tile * problem.words + tile / 32);
            const bool set = (found[word] >> (tile % 32) & 1u) != 0;
            const double margin = expected.margin[32 * word + static_cast<size_t>(tile % 32)];
            if (std::isinf(margin)) {
              ASSERT_FALSE(set) << "tile " << tile << " of query tile " << query_tile << " holds no far key";
            } else if (std::abs(margin) > 0.02) {
              ASSERT_EQ(set, margin > 0) << "tile " << tile << " of query tile " << query_tile << ", margin " << margin;
            }
          }
        }
      }
    }
  }
};

TEST_F(TileSelectionGpu, EqualsTheReference) {
  for (const int32_t length : {1, 100, 105, 128, 129, 383, 384, 385, 1000, 3000}) {
    check({.sequences = {{0, length, 0, length}}});
  }
}

TEST_F(TileSelectionGpu, ChunksBatchesAndWindows) {
  check({.sequences = {{0, 100, 0, 3000}, {100, 500, 3001, 500}, {600, 0, 3501, 7}, {603, 77, 3508, 4000}}});
  for (const int32_t window : {1, 64, 2000}) {
    for (const int32_t sinks : {0, 64, 300}) {
      check({.sequences = {{0, 900, 0, 900}}, .sink_tokens = sinks, .window = window});
    }
  }
}

TEST_F(TileSelectionGpu, SampledLogSumExp) {
  check({.selected_heads = {3}, .sequences = {{0, 200, 13, 20000}}, .tile_share = 0.001f});
}

TEST_F(TileSelectionGpu, RerunsAreBitwiseEqual) {
  check({.sequences = {{0, 2000, 0, 2000}}}, 20);
}
#endif

}  // namespace
}  // namespace retrosparse::kernels
