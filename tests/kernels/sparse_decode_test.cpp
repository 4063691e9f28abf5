#include "retrosparse_kernels/sparse_decode.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "kernels/attention_testing.h"

namespace retrosparse::kernels {
namespace {

using testing::Array;

constexpr HeadMode kL = HeadMode::kLocal;
constexpr HeadMode kD = HeadMode::kDense;
constexpr HeadMode kS = HeadMode::kSelected;

struct Case {
  std::vector<HeadMode> modes = {kL, kS, kL, kS, kL, kL, kL, kS};
  int32_t num_key_value_heads = 2;
  int32_t head_dim = 128;
  int32_t query_tokens = 1;
  std::vector<int32_t> key_counts;
  SelectionRule rule = {0.9f, 8, 100};
  int32_t sink_tokens = 4;
  int32_t window = 30;
  int32_t page_size = 0;  ///< 0: contiguous caches
  int32_t max_keys = 0;   ///< 0: the largest count

  int32_t heads() const { return static_cast<int32_t>(modes.size()); }
  int32_t batch() const { return static_cast<int32_t>(key_counts.size()); }
  int32_t capacity() const { return std::max(max_keys, *std::max_element(key_counts.begin(), key_counts.end())); }
  int32_t page() const { return page_size > 0 ? page_size : capacity(); }
  int64_t pages_per_sequence() const { return (capacity() + page() - 1) / page(); }
  int64_t queries() const { return int64_t{batch()} * query_tokens; }
};

/// Inputs of a case; what no key of a sequence occupies holds NaN.
struct Problem {
  explicit Problem(const Case& shape)
      : shape_(shape),
        q(Array::normal(Dtype::kBfloat16, shape.queries() * shape.heads() * shape.head_dim, 1)),
        k(Dtype::kBfloat16, 0),
        v(k),
        index_keys(k) {
    const int32_t heads_per_group = shape.heads() / shape.num_key_value_heads;
    for (int32_t h = 0; h < shape.heads(); ++h) {
      if (shape.modes[static_cast<size_t>(h)] == kS) {
        groups += selected_heads.empty() || selected_heads.back() / heads_per_group != h / heads_per_group ? 1 : 0;
        selected_heads.push_back(h);
      }
    }
    rules.assign(selected_heads.size(), shape.rule);
    std::mt19937 random(2);
    std::mt19937 random_index(3);  // its own: k and v are the same whatever is selected
    page_table.resize(static_cast<size_t>(shape.batch() * shape.pages_per_sequence()));
    std::iota(page_table.begin(), page_table.end(), 0);
    if (shape.page_size > 0) {
      std::shuffle(page_table.begin(), page_table.end(), random);
    }
    const auto pages = static_cast<int64_t>(page_table.size());
    k = Array(Dtype::kBfloat16, pages * page_elements());
    v = k;
    index_keys = Array(Dtype::kBfloat16, pages * groups * shape.page() * kIndexDim);
    std::normal_distribution<float> normal;
    for (int32_t b = 0; b < shape.batch(); ++b) {
      for (int32_t n = 0; n < shape.key_counts[static_cast<size_t>(b)]; ++n) {
        const int64_t page = page_table[static_cast<size_t>(b * shape.pages_per_sequence() + n / shape.page())];
        const int64_t row = int64_t{shape.num_key_value_heads} * shape.head_dim;
        for (int64_t j = 0; j < row; ++j) {
          k.set(page * page_elements() + n % shape.page() * row + j, normal(random));
          v.set(page * page_elements() + n % shape.page() * row + j, normal(random));
        }
        for (int64_t j = 0; j < groups * kIndexDim; ++j) {
          index_keys.set(
              ((page * groups + j / kIndexDim) * shape.page() + n % shape.page()) * kIndexDim + j % kIndexDim,
              normal(random_index));
        }
      }
    }
    index_queries.resize(static_cast<size_t>(rows() * kIndexDim));
    gates.resize(static_cast<size_t>(rows()));
    std::generate(index_queries.begin(), index_queries.end(), [&] { return 0.7f * normal(random); });
    std::generate(gates.begin(), gates.end(), [&] { return normal(random); });
  }

  int64_t page_elements() const { return int64_t{shape_.page()} * shape_.num_key_value_heads * shape_.head_dim; }
  int64_t rows() const { return shape_.queries() * static_cast<int64_t>(selected_heads.size()); }

  SparseDecodeParams params() const {
    SparseDecodeParams p;
    DecodeAttentionParams& a = p.attention;
    a.cache.sequence_stride = page_elements();
    a.cache.token_stride = int64_t{shape_.num_key_value_heads} * shape_.head_dim;
    a.cache.head_stride = shape_.head_dim;
    a.cache.page_table_stride = shape_.pages_per_sequence();
    a.cache.page_size = shape_.page_size;
    a.batch = shape_.batch();
    a.query_tokens = shape_.query_tokens;
    a.num_heads = shape_.heads();
    a.num_key_value_heads = shape_.num_key_value_heads;
    a.head_dim = shape_.head_dim;
    a.max_keys = shape_.capacity();
    a.softmax_scale = 1 / std::sqrt(static_cast<float>(shape_.head_dim));
    a.head_modes = shape_.modes.data();
    a.sink_tokens = shape_.sink_tokens;
    a.window = shape_.window;
    DecodeSelectionParams& s = p.selection;
    s.cache.group_stride = int64_t{shape_.page()} * kIndexDim;
    s.cache.sequence_stride = groups * s.cache.group_stride;
    s.cache.page_table_stride = a.cache.page_table_stride;
    s.cache.page_size = a.cache.page_size;
    s.batch = a.batch;
    s.query_tokens = a.query_tokens;
    s.num_heads = a.num_heads;
    s.num_key_value_heads = a.num_key_value_heads;
    s.num_selected_heads = static_cast<int32_t>(selected_heads.size());
    s.selected_heads = selected_heads.data();
    s.rules = rules.data();
    s.max_selected = shape_.rule.max_tokens;
    s.max_keys = a.max_keys;
    s.sink_tokens = a.sink_tokens;
    s.window = a.window;
    return p;
  }

  struct Result {
    Array o, lse;
    std::vector<int32_t> selected, counts;
    std::vector<float> far_mass;
  };
  Result empty_result() const {
    const auto size = static_cast<size_t>(std::max<int64_t>(1, rows()));
    return {Array(Dtype::kBfloat16, q.size()), Array(Dtype::kFloat32, q.size() / shape_.head_dim),
            std::vector<int32_t>(size * static_cast<size_t>(shape_.rule.max_tokens), -7),
            std::vector<int32_t>(size, -7), std::vector<float>(size, NAN)};
  }
  Result run_reference() const {
    Result result = empty_result();
    SparseDecodeParams p = params();
    p.attention.q = q.data();
    p.attention.cache.k = k.data();
    p.attention.cache.v = v.data();
    p.selection.queries = index_queries.data();
    p.selection.gates = gates.data();
    p.selection.cache.keys = index_keys.data();
    if (shape_.page_size > 0) {
      p.attention.cache.page_table = p.selection.cache.page_table = page_table.data();
    }
    p.attention.key_counts = p.selection.key_counts = shape_.key_counts.data();
    p.attention.o = result.o.data();
    p.attention.lse = static_cast<float*>(result.lse.data());
    p.selection.selected = result.selected.data();
    p.selection.selected_counts = result.counts.data();
    p.selection.far_mass = result.far_mass.data();
    reference::sparse_decode(p);
    return result;
  }

  const Case& shape_;
  Array q, k, v, index_keys;
  int64_t groups = 0;
  std::vector<int32_t> page_table, selected_heads;
  std::vector<SelectionRule> rules;
  std::vector<float> index_queries, gates;
};

TEST(SparseDecode, ReferenceIsDenseWhereEverythingIsSelected) {
  Case shape{.query_tokens = 2, .key_counts = {120, 31}, .rule = {1.0f, 0, 120}};
  const Problem::Result found = Problem(shape).run_reference();
  const std::vector<HeadMode> modes = shape.modes;
  for (HeadMode& mode : shape.modes) {
    mode = mode == kS ? kD : mode;
  }
  Problem dense(shape);
  const Problem::Result expected = dense.run_reference();
  testing::expect_same_up_to_rounding(found.o, expected.o, Dtype::kBfloat16, 1);
  testing::expect_close_lse(found.lse, expected.lse, 1e-5);
  EXPECT_EQ(found.counts[0], 118 - 30 + 1 - 4);
}

#ifdef RETROSPARSE_WITH_CUDA
class SparseDecodeGpu : public ::testing::Test {
 protected:
  void SetUp() override { RETROSPARSE_REQUIRE_GPU(); }

  static void check(const Case& shape, int reruns = 1) {
    SCOPED_TRACE(::testing::Message() << "batch " << shape.batch() << ", " << shape.query_tokens << " query tokens, "
                                      << shape.heads() << " heads of " << shape.head_dim << ", window " << shape.window
                                      << ", pages of " << shape.page_size << ", first count " << shape.key_counts[0]);
    const Problem problem(shape);
    const Problem::Result expected = problem.run_reference();
    testing::DeviceArray q(problem.q), k(problem.k), v(problem.v), index_keys(problem.index_keys);
    testing::DeviceVector<float> queries(problem.index_queries), gates(problem.gates);
    testing::DeviceVector<int32_t> key_counts(shape.key_counts), page_table(problem.page_table);
    SparseDecodeParams p = problem.params();
    p.attention.q = q.data();
    p.attention.cache.k = k.data();
    p.attention.cache.v = v.data();
    p.selection.queries = queries.data();
    p.selection.gates = gates.data();
    p.selection.cache.keys = index_keys.data();
    if (shape.page_size > 0) {
      p.attention.cache.page_table = p.selection.cache.page_table = page_table.data();
    }
    p.attention.key_counts = p.selection.key_counts = key_counts.data();
    std::vector<uint8_t> bytes(sm90::sparse_decode_workspace(p), 0xff);
    const auto counter_bytes = static_cast<int64_t>(kSelectionCounterBytes);
    std::fill_n(bytes.begin(), counter_bytes, uint8_t{0});
    testing::DeviceVector<uint8_t> workspace(bytes);
    p.workspace = workspace.data();
    Array first = expected.o;
    for (int run = 0; run <= reruns; ++run) {
      const Problem::Result poison = problem.empty_result();
      testing::DeviceArray o(poison.o), lse(poison.lse);
      testing::DeviceVector<int32_t> selected(poison.selected), counts(poison.counts);
      testing::DeviceVector<float> far_mass(poison.far_mass);
      p.attention.o = o.data();
      p.attention.lse = static_cast<float*>(lse.data());
      p.selection.selected = selected.data();
      p.selection.selected_counts = counts.data();
      p.selection.far_mass = far_mass.data();
      ASSERT_EQ(sm90::sparse_decode(p, nullptr), cudaSuccess);
      ASSERT_EQ(counts.fetch(), expected.counts);
      ASSERT_EQ(selected.fetch(), expected.selected);
      const std::vector<float> mass = far_mass.fetch();
      for (size_t row = 0; row < static_cast<size_t>(problem.rows()); ++row) {
        ASSERT_NEAR(mass[row], expected.far_mass[row], 1e-4) << "far mass of row " << row;
      }
      testing::expect_close_attention(o.fetch(), expected.o);
      testing::expect_close_lse(lse.fetch(), expected.lse, 1e-4);
      if (run == 0) {
        first = o.fetch();
      }
      ASSERT_EQ(o.fetch(), first) << "a rerun differs";
      const std::vector<uint8_t> after = workspace.fetch();
      ASSERT_TRUE(std::all_of(after.begin(), after.begin() + counter_bytes, [](uint8_t b) { return b == 0; }));
    }
  }
};

TEST_F(SparseDecodeGpu, EveryLength) {
  for (const int32_t head_dim : {64, 128}) {
    for (const int32_t count : {1, 33, 34, 35, 63, 64, 65, 129, 1000, 9000}) {
      check({.head_dim = head_dim, .key_counts = {count}});
    }
  }
}

TEST_F(SparseDecodeGpu, DenseHeadsAndLayersWithoutSelection) {
  check({.modes = {kD, kS, kL, kD}, .key_counts = {700, 90}});
  check({.modes = {kD, kL, kL, kL}, .key_counts = {700}});
  check({.modes = {kL, kL}, .key_counts = {700, 5}});
  check({.modes = std::vector<HeadMode>(6, kS), .key_counts = {700}});
}

TEST_F(SparseDecodeGpu, SpeculativeTokensAndBatches) {
  for (const int32_t tokens : {2, 8}) {
    check({.query_tokens = tokens, .key_counts = {tokens, 100, 2777}});
  }
  check({.modes = std::vector<HeadMode>(24, kS), .query_tokens = 3, .key_counts = {300}, .window = 10});
  check({.key_counts = std::vector<int32_t>(64, 400)});
  check({.key_counts = std::vector<int32_t>(17, 500), .rule = {0.5f, 0, 400}});
}

TEST_F(SparseDecodeGpu, PagesAndRoomToGrow) {
  for (const int32_t page_size : {1, 16, 64, 256}) {
    check({.key_counts = {500, 33, 9333}, .page_size = page_size, .max_keys = 20000});
  }
}

TEST_F(SparseDecodeGpu, WindowsSinksAndRules) {
  for (const int32_t window : {1, 64, 5000}) {
    for (const int32_t sinks : {0, 100}) {
      check({.key_counts = {900}, .sink_tokens = sinks, .window = window});
    }
  }
  for (const SelectionRule& rule : {SelectionRule{0.0f, 0, 10}, {0.5f, 0, 1000}, {1.0f, 0, 4096}, {0.9f, 0, 0}}) {
    check({.key_counts = {12000}, .rule = rule});
  }
}

TEST_F(SparseDecodeGpu, LongSequencesByThresholdAndBitwiseEqualReruns) {
  check({.modes = {kL, kS}, .num_key_value_heads = 1, .key_counts = {100003}, .rule = {0.9f, 64, 1024}, .window = 8192},
        20);
}

TEST_F(SparseDecodeGpu, RejectsHalvesThatDoNotFit) {
  const Case shape{.key_counts = {100}};
  const Problem problem(shape);
  testing::DeviceVector<int32_t> memory(std::vector<int32_t>(1 << 16, 0));
  SparseDecodeParams good = problem.params();
  good.attention.q = good.attention.cache.k = good.attention.cache.v = good.selection.cache.keys = memory.data();
  good.attention.o = good.workspace = memory.data();
  good.attention.key_counts = good.selection.key_counts = good.selection.selected_counts = memory.data();
  good.selection.queries = good.selection.gates = reinterpret_cast<float*>(memory.data());
  good.attention.batch = good.selection.batch = 0;
  ASSERT_EQ(sm90::sparse_decode(good, nullptr), cudaSuccess);
  const auto expect_invalid = [&](const auto& change) {
    SparseDecodeParams params = good;
    change(params);
    EXPECT_EQ(sm90::sparse_decode(params, nullptr), cudaErrorInvalidValue);
  };
  expect_invalid([](SparseDecodeParams& p) { p.selection.window += 1; });
  expect_invalid([](SparseDecodeParams& p) { p.selection.max_keys += 1; });
  expect_invalid([](SparseDecodeParams& p) { p.selection.key_counts += 1; });
  expect_invalid([](SparseDecodeParams& p) { p.selection.num_selected_heads -= 1; });
  expect_invalid([](SparseDecodeParams& p) { p.attention.head_dim = 96; });
  expect_invalid([](SparseDecodeParams& p) { p.workspace = nullptr; });
  expect_invalid([](SparseDecodeParams& p) { p.selection.gates = nullptr; });
}
#endif

}  // namespace
}  // namespace retrosparse::kernels
