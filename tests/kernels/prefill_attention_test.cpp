#include "retrosparse_kernels/prefill_attention.h"

#include <algorithm>
#include <random>

#include "kernels/attention_testing.h"

namespace retrosparse::kernels {
namespace {

using testing::Array;

constexpr HeadMode kL = HeadMode::kLocal;
constexpr HeadMode kD = HeadMode::kDense;
constexpr HeadMode kS = HeadMode::kSelected;

/// A problem with its inputs; rows between and behind the sequences hold NaN.
struct Case {
  std::vector<HeadMode> modes;
  int32_t num_key_value_heads = 1;
  int32_t head_dim = 64;
  int32_t sink_tokens = 4;
  int32_t window = 64;
  std::vector<PrefillSequence> sequences;
  double selected_share = 0.2;  ///< of the tiles
  int32_t padding = 0;          ///< elements behind each head
  float magnitude = 1;
  Dtype dtype = Dtype::kBfloat16;

  int32_t heads() const { return static_cast<int32_t>(modes.size()); }
  int32_t total_queries() const {
    int32_t end = 0;
    for (const PrefillSequence& s : sequences) {
      end = std::max(end, s.query_begin + s.query_count);
    }
    return end;
  }
  int32_t total_keys() const {
    int32_t end = 0;
    for (const PrefillSequence& s : sequences) {
      end = std::max(end, s.key_begin + s.key_count);
    }
    return end + 37;
  }
};

/// One sequence of `count` queries against `count` keys.
std::vector<PrefillSequence> prompt(int32_t count) {
  return {{0, count, 0, count}};
}

struct Problem {
  explicit Problem(const Case& shape)
      : shape_(shape),
        width(shape.head_dim + shape.padding),
        q(Array::normal(shape.dtype, int64_t{shape.total_queries()} * shape.heads() * width, 1)),
        k(Array::normal(shape.dtype, int64_t{shape.total_keys()} * shape.num_key_value_heads * width, 2)),
        v(Array::normal(shape.dtype, int64_t{shape.total_keys()} * shape.num_key_value_heads * width, 3)) {
    for (int64_t i = 0; i < q.size(); ++i) {
      q.set(i, q.at(i) * shape.magnitude);
    }
    std::vector<bool> used(static_cast<size_t>(shape.total_keys()));
    int64_t most_keys = 0;
    int64_t tiles = 0;
    for (const PrefillSequence& s : shape.sequences) {
      std::fill_n(used.begin() + s.key_begin, s.key_count, true);
      most_keys = std::max<int64_t>(most_keys, s.key_count);
      tiles += (s.query_count + kPrefillQueryTile - 1) / kPrefillQueryTile;
    }
    const int64_t row = int64_t{shape.num_key_value_heads} * width;
    for (int64_t n = 0; n < shape.total_keys(); ++n) {
      for (int64_t j = 0; j < row && !used[static_cast<size_t>(n)]; ++j) {
        k.set(n * row + j, NAN);
        v.set(n * row + j, NAN);
      }
    }
    words = (most_keys + 2047) / 2048;
    query_tiles = tiles;
    std::mt19937 random(4);
    std::bernoulli_distribution chosen(shape.selected_share);
    selected.resize(static_cast<size_t>(std::count(shape.modes.begin(), shape.modes.end(), kS) * tiles * words));
    for (uint32_t& word : selected) {
      for (int bit = 0; bit < 32; ++bit) {
        word |= static_cast<uint32_t>(chosen(random)) << bit;
      }
    }
  }

  PrefillAttentionParams params() const {
    PrefillAttentionParams p;
    p.q_token_stride = p.o_token_stride = int64_t{shape_.heads()} * width;
    p.k_token_stride = p.v_token_stride = int64_t{shape_.num_key_value_heads} * width;
    p.q_head_stride = p.k_head_stride = p.v_head_stride = p.o_head_stride = width;
    p.total_queries = shape_.total_queries();
    p.total_keys = shape_.total_keys();
    p.lse_head_stride = p.total_queries;
    p.num_heads = shape_.heads();
    p.num_key_value_heads = shape_.num_key_value_heads;
    p.head_dim = shape_.head_dim;
    p.dtype = shape_.dtype;
    p.softmax_scale = 1 / std::sqrt(static_cast<float>(shape_.head_dim));
    p.head_modes = shape_.modes.data();
    p.sink_tokens = shape_.sink_tokens;
    p.window = shape_.window;
    p.sequences = shape_.sequences.data();
    p.num_sequences = static_cast<int32_t>(shape_.sequences.size());
    p.selected_tiles_head_stride = query_tiles * words;
    p.selected_tiles_query_stride = words;
    return p;
  }

  struct Result {
    Array o, lse;
  };
  Result empty_result() const {
    return {Array(shape_.dtype, q.size()), Array(Dtype::kFloat32, int64_t{shape_.heads()} * shape_.total_queries())};
  }
  Result run_reference() const {
    Result result = empty_result();
    run_reference(PrefillPart::kAll, result);
    return result;
  }
  void run_reference(PrefillPart part, Result& result) const {
    PrefillAttentionParams p = params();
    p.part = part;
    p.q = q.data();
    p.k = k.data();
    p.v = v.data();
    p.o = result.o.data();
    p.lse = static_cast<float*>(result.lse.data());
    p.selected_tiles = selected.data();
    for (int32_t h = 0; h < shape_.heads(); ++h) {
      reference::prefill_attention(p, h);
    }
  }

  const Case& shape_;
  int64_t width;
  Array q, k, v;
  int64_t words = 0, query_tiles = 0;
  std::vector<uint32_t> selected;
};

TEST(PrefillAttention, ReferenceIsSoftmaxOverTheVisibleKeys) {
  const Case shape{.modes = {kL, kD, kS},
                   .head_dim = 8,
                   .sink_tokens = 2,
                   .window = 3,
                   .sequences = {{0, 10, 0, 10}, {12, 70, 11, 200}},
                   .selected_share = 0.5,
                   .dtype = Dtype::kFloat32};
  const Problem problem(shape);
  const Problem::Result result = problem.run_reference();
  int64_t tile = 0;
  for (const PrefillSequence& s : shape.sequences) {
    for (int32_t i = 0; i < s.query_count; ++i) {
      for (int32_t h = 0; h < 3; ++h) {
        const int32_t position = s.key_count - s.query_count + i;
        double sum = 0;
        double first_column = 0;
        for (int32_t n = 0; n <= position; ++n) {
          const uint32_t word = problem.selected[static_cast<size_t>(tile * problem.words)];
          const bool selected = shape.modes[static_cast<size_t>(h)] == kS && (word >> (n / 64) & 1u) != 0;
          if (shape.modes[static_cast<size_t>(h)] != kD && n >= 2 && position - n >= 3 && !selected) {
            continue;
          }
          double score = 0;
          for (int32_t j = 0; j < 8; ++j) {
            score += static_cast<double>(problem.q.at(((s.query_begin + i) * 3 + h) * 8 + j)) *
                     static_cast<double>(problem.k.at((s.key_begin + n) * 8 + j)) / std::sqrt(8.0);
          }
          sum += std::exp(score);
          first_column += std::exp(score) * static_cast<double>(problem.v.at((s.key_begin + n) * 8));
        }
        ASSERT_NEAR(result.o.at(((s.query_begin + i) * 3 + h) * 8), first_column / sum, 1e-5) << i << ", head " << h;
        ASSERT_NEAR(result.lse.at(h * shape.total_queries() + s.query_begin + i), std::log(sum), 1e-5);
      }
    }
    tile += (s.query_count + 127) / 128;
  }
  EXPECT_TRUE(result.o.is_untouched(10 * 3 * 8)) << "a row between the sequences was written";
}

TEST(PrefillAttention, ReferenceModesAgreeWhereTheyMust) {
  const std::vector<PrefillSequence> sequences = prompt(150);
  const Case dense{.modes = {kD}, .head_dim = 16, .sequences = sequences, .dtype = Dtype::kFloat32};
  const Case wide{.modes = {kL}, .head_dim = 16, .window = 1000, .sequences = sequences, .dtype = Dtype::kFloat32};
  const Case all{.modes = {kS}, .head_dim = 16, .sequences = sequences, .selected_share = 1, .dtype = Dtype::kFloat32};
  const Case none{.modes = {kS}, .head_dim = 16, .sequences = sequences, .selected_share = 0, .dtype = Dtype::kFloat32};
  const Case local{.modes = {kL}, .head_dim = 16, .sequences = sequences, .dtype = Dtype::kFloat32};
  EXPECT_EQ(Problem(dense).run_reference().o, Problem(wide).run_reference().o);
  EXPECT_EQ(Problem(dense).run_reference().o, Problem(all).run_reference().o);
  EXPECT_EQ(Problem(local).run_reference().o, Problem(none).run_reference().o);
  EXPECT_FALSE(Problem(local).run_reference().o == Problem(dense).run_reference().o);
}

TEST(PrefillAttention, ReferencePartsMergeToTheWhole) {
  const Case shape{.modes = {kL, kS, kD, kS},
                   .num_key_value_heads = 2,
                   .head_dim = 16,
                   .window = 20,
                   .sequences = {{0, 100, 0, 100}, {100, 60, 100, 300}},
                   .dtype = Dtype::kFloat32};
  const Problem problem(shape);
  const Problem::Result whole = problem.run_reference();
  Problem::Result parts = problem.empty_result();
  problem.run_reference(PrefillPart::kResident, parts);
  EXPECT_FALSE(parts.o == whole.o);
  problem.run_reference(PrefillPart::kSelected, parts);
  testing::expect_close_attention(parts.o, whole.o);
  testing::expect_close_lse(parts.lse, whole.lse, 1e-5);
}

#ifdef RETROSPARSE_WITH_CUDA
class PrefillAttentionGpu : public ::testing::Test {
 protected:
  void SetUp() override { RETROSPARSE_REQUIRE_GPU(); }

  static void check(const Case& shape, int reruns = 1, const std::vector<PrefillPart>& parts = {PrefillPart::kAll}) {
    SCOPED_TRACE(::testing::Message() << parts.size() << " parts, " << shape.heads() << " heads of " << shape.head_dim
                                      << ", window " << shape.window << ", sinks " << shape.sink_tokens << ", "
                                      << shape.sequences.size() << " sequences, first "
                                      << shape.sequences[0].query_count);
    const Problem problem(shape);
    const Problem::Result expected = problem.run_reference();
    testing::DeviceArray q(problem.q), k(problem.k), v(problem.v);
    testing::DeviceVector<uint32_t> selected(problem.selected);
    testing::DeviceVector<int32_t> workspace({-5});
    PrefillAttentionParams p = problem.params();
    p.q = q.data();
    p.k = k.data();
    p.v = v.data();
    p.selected_tiles = selected.data();
    p.workspace = workspace.data();
    Array first(Dtype::kFloat32, 0);
    for (int run = 0; run <= reruns; ++run) {
      const Problem::Result poison = problem.empty_result();
      testing::DeviceArray o(poison.o), lse(poison.lse);
      p.o = o.data();
      p.lse = static_cast<float*>(lse.data());
      for (const PrefillPart part : parts) {
        p.part = part;
        ASSERT_EQ(sm90::prefill_attention(p, nullptr), cudaSuccess);
      }
      const Array found = o.fetch();
      testing::expect_close_attention(found, expected.o);
      testing::expect_close_lse(lse.fetch(), expected.lse, 1e-4 * std::max(1.0f, shape.magnitude));
      if (run == 0) {
        first = found;
      } else {
        ASSERT_EQ(found, first) << "a rerun differs";
      }
    }
  }
};

TEST_F(PrefillAttentionGpu, EveryLengthAroundATile) {
  for (const int32_t head_dim : {64, 128}) {
    for (const int32_t length : {1, 2, 63, 64, 65, 127, 128, 129, 257, 700}) {
      check({.modes = {kL, kD, kS, kL},
             .num_key_value_heads = 2,
             .head_dim = head_dim,
             .window = 100,
             .sequences = prompt(length)});
    }
  }
}

TEST_F(PrefillAttentionGpu, WindowsAndSinks) {
  for (const int32_t window : {1, 64, 65, 5000}) {
    for (const int32_t sinks : {0, 1, 64, 200}) {
      check({.modes = {kL, kS}, .sink_tokens = sinks, .window = window, .sequences = prompt(333)});
    }
  }
}

TEST_F(PrefillAttentionGpu, ChunksAndPackedBatches) {
  const std::vector<PrefillSequence> batch = {
      {0, 100, 0, 100}, {103, 0, 100, 50}, {103, 77, 150, 500}, {180, 1, 679, 64}, {181, 300, 760, 301}};
  for (const int32_t head_dim : {64, 128}) {
    check({.modes = {kD, kL, kS, kS, kL, kD},
           .num_key_value_heads = 3,
           .head_dim = head_dim,
           .sequences = batch,
           .padding = 8});
  }
  std::vector<PrefillSequence> many;
  for (int32_t s = 0; s < 150; ++s) {
    many.push_back({5 * s, 5, 9 * s, 7});
  }
  check({.modes = {kL, kD}, .window = 3, .sequences = many});
}

TEST_F(PrefillAttentionGpu, PartsMergeToTheWhole) {
  const std::vector<PrefillPart> parts = {PrefillPart::kResident, PrefillPart::kSelected};
  for (const int32_t head_dim : {64, 128}) {
    for (const double share : {0.0, 0.1, 1.0}) {
      check({.modes = {kS, kL, kS, kD},
             .num_key_value_heads = 2,
             .head_dim = head_dim,
             .window = 100,
             .sequences = {{0, 700, 0, 700}, {701, 200, 705, 1000}},
             .selected_share = share},
            1, parts);
    }
  }
}

TEST_F(PrefillAttentionGpu, Extremes) {
  for (const double share : {0.0, 1.0}) {
    check({.modes = {kS, kS}, .sink_tokens = 0, .window = 1, .sequences = prompt(500), .selected_share = share});
  }
  check({.modes = {kL, kD, kS}, .head_dim = 128, .sequences = prompt(400), .magnitude = 300});
  check({.modes = {kL, kD}, .head_dim = 128, .sequences = prompt(400), .magnitude = 0});  // all scores equal
}

TEST_F(PrefillAttentionGpu, RerunsAreBitwiseEqual) {
  check(
      {.modes = {kL, kD, kS, kD}, .num_key_value_heads = 2, .head_dim = 128, .window = 300, .sequences = prompt(1500)},
      20);
}

TEST_F(PrefillAttentionGpu, BadArgumentsAreRefused) {
  const Case shape{.modes = {kD, kS}, .sequences = prompt(64)};
  const Problem problem(shape);
  testing::DeviceArray q(problem.q), k(problem.k), v(problem.v), o(problem.q);
  testing::DeviceVector<uint32_t> selected(problem.selected);
  testing::DeviceVector<int32_t> workspace({0});
  PrefillAttentionParams good = problem.params();
  good.q = q.data();
  good.k = k.data();
  good.v = v.data();
  good.o = o.data();
  good.selected_tiles = selected.data();
  good.workspace = workspace.data();
  ASSERT_EQ(sm90::prefill_attention(good, nullptr), cudaSuccess);
  const auto refused = [&](auto change) {
    PrefillAttentionParams bad = good;
    change(bad);
    return sm90::prefill_attention(bad, nullptr) == cudaErrorInvalidValue;
  };
  const PrefillSequence outside = {0, 65, 0, 65};
  const PrefillSequence short_keys = {0, 64, 0, 63};
  EXPECT_TRUE(refused([](auto& p) { p.q = nullptr; }));
  EXPECT_TRUE(refused([](auto& p) { p.k = static_cast<const char*>(p.k) + 2; }));
  EXPECT_TRUE(refused([](auto& p) { p.v_token_stride = 63; }));
  EXPECT_TRUE(refused([](auto& p) { p.head_dim = 96; }));
  EXPECT_TRUE(refused([](auto& p) { p.num_key_value_heads = 3; }));
  EXPECT_TRUE(refused([](auto& p) { p.window = 0; }));
  EXPECT_TRUE(refused([](auto& p) { p.sink_tokens = -1; }));
  EXPECT_TRUE(refused([](auto& p) { p.softmax_scale = NAN; }));
  EXPECT_TRUE(refused([](auto& p) { p.dtype = Dtype::kFloat16; }));
  EXPECT_TRUE(refused([](auto& p) { p.selected_tiles = nullptr; }));
  EXPECT_TRUE(refused([](auto& p) { p.selected_tiles_query_stride = 0; }));
  EXPECT_TRUE(refused([](auto& p) { p.workspace = nullptr; }));
  EXPECT_TRUE(refused([&](auto& p) { p.sequences = &outside; }));
  EXPECT_TRUE(refused([&](auto& p) { p.sequences = &short_keys; }));
}
#endif

}  // namespace
}  // namespace retrosparse::kernels
