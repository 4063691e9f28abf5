#include "retrosparse_kernels/decode_selection.h"

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
  int32_t query_tokens = 1;
  std::vector<int32_t> key_counts;
  SelectionRule rule = {0.9f, 8, 100};
  int32_t sink_tokens = 4;
  int32_t window = 30;
  bool ties = false;  ///< few different scores
  int32_t max_keys = 0;

  int32_t heads() const { return static_cast<int32_t>(selected_heads.size()); }
  int32_t batch() const { return static_cast<int32_t>(key_counts.size()); }
  int64_t rows() const { return int64_t{batch()} * query_tokens * heads(); }
  int32_t capacity() const { return std::max(max_keys, *std::max_element(key_counts.begin(), key_counts.end())); }
};

struct Problem {
  explicit Problem(const Case& shape) : shape_(shape), keys(Dtype::kBfloat16, 0) {
    std::set<int32_t> found;
    for (const int32_t head : shape.selected_heads) {
      found.insert(head / (shape.num_heads / shape.num_key_value_heads));
    }
    groups = static_cast<int64_t>(found.size());
    keys = Array::normal(Dtype::kBfloat16, shape.batch() * groups * shape.capacity() * kIndexDim, 1);
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& values, int64_t size) {
      values.resize(static_cast<size_t>(size));
      std::generate(values.begin(), values.end(), [&] { return normal(random); });
    };
    fill(queries, shape.rows() * kIndexDim);
    fill(gates, shape.rows());
    fill(lse_local, int64_t{shape.batch()} * shape.query_tokens * shape.num_heads);
    if (shape.ties) {
      for (int64_t i = 0; i < keys.size(); ++i) {
        keys.set(i, std::round(keys.at(i)) * (i % kIndexDim < 2 ? 1.0f : 0.0f));
      }
      for (float& value : queries) {
        value = std::round(value);
      }
    }
    rules.assign(shape.selected_heads.size(), shape.rule);
  }

  DecodeSelectionParams params() const {
    DecodeSelectionParams p;
    p.cache.group_stride = int64_t{shape_.capacity()} * kIndexDim;
    p.cache.sequence_stride = groups * p.cache.group_stride;
    p.batch = shape_.batch();
    p.query_tokens = shape_.query_tokens;
    p.num_heads = shape_.num_heads;
    p.num_key_value_heads = shape_.num_key_value_heads;
    p.num_selected_heads = shape_.heads();
    p.selected_heads = shape_.selected_heads.data();
    p.rules = rules.data();
    p.max_selected = shape_.rule.max_tokens;
    p.max_keys = shape_.capacity();
    p.sink_tokens = shape_.sink_tokens;
    p.window = shape_.window;
    return p;
  }

  struct Result {
    std::vector<int32_t> selected, counts;
    std::vector<float> far_mass;
  };
  Result empty_result() const {
    return {std::vector<int32_t>(static_cast<size_t>(shape_.rows() * shape_.rule.max_tokens), -7),
            std::vector<int32_t>(static_cast<size_t>(shape_.rows()), -7),
            std::vector<float>(static_cast<size_t>(shape_.rows()), NAN)};
  }
  Result run_reference() const {
    Result result = empty_result();
    DecodeSelectionParams p = params();
    p.queries = queries.data();
    p.gates = gates.data();
    p.lse_local = lse_local.data();
    p.cache.keys = keys.data();
    p.key_counts = shape_.key_counts.data();
    p.selected = result.selected.data();
    p.selected_counts = result.counts.data();
    p.far_mass = result.far_mass.data();
    reference::decode_selection(p);
    return result;
  }

  const Case& shape_;
  Array keys;
  int64_t groups;
  std::vector<float> queries, gates, lse_local;
  std::vector<SelectionRule> rules;
};

TEST(DecodeSelection, ReferenceKeepsToFloorCapAndFarKeys) {
  for (const float p : {0.0f, 0.5f, 0.99f, 1.0f}) {
    const Case shape{.query_tokens = 2, .key_counts = {300, 40, 20, 2}, .rule = {p, 5, 50}};
    const Problem::Result result = Problem(shape).run_reference();
    for (int64_t row = 0; row < shape.rows(); ++row) {
      const int64_t sequence = row / (shape.query_tokens * shape.heads());
      const int64_t token = row / shape.heads() % shape.query_tokens;
      const int64_t position = shape.key_counts[static_cast<size_t>(sequence)] - shape.query_tokens + token;
      const int64_t far = std::max<int64_t>(0, position - shape.window + 1 - shape.sink_tokens);
      const int64_t count = result.counts[static_cast<size_t>(row)];
      ASSERT_GE(count, std::min<int64_t>(far, 5));
      ASSERT_LE(count, std::min<int64_t>(far, 50));
      if (p == 1.0f) {
        ASSERT_EQ(count, std::min<int64_t>(far, 50));
      }
      const auto begin = result.selected.begin() + row * shape.rule.max_tokens;
      const std::set<int32_t> keys(begin, begin + count);
      ASSERT_EQ(static_cast<int64_t>(keys.size()), count) << "a key was selected twice";
      for (const int32_t key : keys) {
        ASSERT_GE(key, shape.sink_tokens);
        ASSERT_LE(key, position - shape.window);
      }
    }
  }
}

TEST(DecodeSelection, ReferencePrefersHighScoresAndOfEqualOnesTheEarlier) {
  Case shape{.selected_heads = {0}, .key_counts = {200}, .rule = {0.0f, 3, 3}, .sink_tokens = 0, .window = 1};
  Problem problem(shape);
  for (int64_t i = 0; i < problem.keys.size(); ++i) {
    problem.keys.set(i, 0);
  }
  std::fill(problem.queries.begin(), problem.queries.end(), 0.0f);
  problem.queries[0] = 1;
  problem.keys.set(150 * kIndexDim, 2);
  problem.keys.set(90 * kIndexDim, 1);
  problem.keys.set(60 * kIndexDim, 1);
  problem.keys.set(30 * kIndexDim, -1);
  const Problem::Result result = problem.run_reference();
  EXPECT_EQ(result.selected, (std::vector<int32_t>{60, 90, 150}));
}

#ifdef RETROSPARSE_WITH_CUDA
class DecodeSelectionGpu : public ::testing::Test {
 protected:
  void SetUp() override { RETROSPARSE_REQUIRE_GPU(); }

  static void check(const Case& shape, int reruns = 1) {
    SCOPED_TRACE(::testing::Message() << "batch " << shape.batch() << ", " << shape.query_tokens
                                      << " query tokens, first count " << shape.key_counts[0] << ", p " << shape.rule.p
                                      << ", " << shape.rule.min_tokens << " to " << shape.rule.max_tokens
                                      << (shape.ties ? ", ties" : ""));
    const Problem problem(shape);
    const Problem::Result expected = problem.run_reference();
    testing::DeviceVector<float> queries(problem.queries), gates(problem.gates), lse_local(problem.lse_local);
    testing::DeviceArray keys(problem.keys);
    testing::DeviceVector<int32_t> key_counts(shape.key_counts);
    DecodeSelectionParams p = problem.params();
    p.queries = queries.data();
    p.gates = gates.data();
    p.lse_local = lse_local.data();
    p.cache.keys = keys.data();
    p.key_counts = key_counts.data();
    std::vector<uint8_t> bytes(sm90::decode_selection_workspace(p), 0xff);
    std::fill_n(bytes.begin(), kSelectionCounterBytes, uint8_t{0});
    testing::DeviceVector<uint8_t> workspace(bytes);
    p.workspace = workspace.data();
    for (int run = 0; run <= reruns; ++run) {
      const Problem::Result poison = problem.empty_result();
      testing::DeviceVector<int32_t> selected(poison.selected), counts(poison.counts);
      testing::DeviceVector<float> far_mass(poison.far_mass);
      p.selected = selected.data();
      p.selected_counts = counts.data();
      p.far_mass = far_mass.data();
      ASSERT_EQ(sm90::decode_selection(p, nullptr), cudaSuccess);
      const std::vector<float> mass = far_mass.fetch();
      for (size_t row = 0; row < mass.size(); ++row) {
        ASSERT_NEAR(mass[row], expected.far_mass[row], 1e-5) << "far mass of row " << row;
      }
      ASSERT_EQ(counts.fetch(), expected.counts);
      ASSERT_EQ(selected.fetch(), expected.selected);
    }
  }
};

TEST_F(DecodeSelectionGpu, EqualsTheReference) {
  for (const int32_t count : {1, 34, 35, 36, 64, 100, 1000, 9000, 70000}) {
    for (const float p : {0.5f, 0.95f}) {
      check({.key_counts = {count, std::max(1, count / 3)}, .rule = {p, 8, 1024}});
    }
  }
}

TEST_F(DecodeSelectionGpu, TiesGoByPosition) {
  for (const int32_t max_tokens : {1, 100, 1000, 4096}) {
    check({.key_counts = {30000}, .rule = {0.0f, max_tokens, max_tokens}, .ties = true});
  }
}

TEST_F(DecodeSelectionGpu, SpeculativeTokensSparseGroupsAndRoomToGrow) {
  check({.selected_heads = {7}, .query_tokens = 8, .key_counts = {500, 77}, .max_keys = 5000});
  check({.num_heads = 24,
         .num_key_value_heads = 2,
         .selected_heads = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 20},
         .query_tokens = 2,
         .key_counts = {3000}});
}

/// More index than L2 holds.
TEST_F(DecodeSelectionGpu, LongSequences) {
  check({.key_counts = {600'000}, .rule = {0.9f, 64, 1024}});
  check({.selected_heads = {3}, .key_counts = {2'300'000}, .rule = {0.9f, 64, 1024}});
}

TEST_F(DecodeSelectionGpu, RerunsAreEqual) {
  check({.key_counts = {50000}, .rule = {0.9f, 64, 1024}}, 20);
}
#endif

}  // namespace
}  // namespace retrosparse::kernels
