#include "retrosparse_kernels/decode_attention.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "kernels/attention_testing.h"
#include "sm90/decode_plan.h"

namespace retrosparse::kernels {
namespace {

using testing::Array;

constexpr HeadMode kL = HeadMode::kLocal;
constexpr HeadMode kD = HeadMode::kDense;
constexpr HeadMode kS = HeadMode::kSelected;

struct Case {
  std::vector<HeadMode> modes;
  int32_t num_key_value_heads = 1;
  int32_t head_dim = 64;
  int32_t query_tokens = 1;
  std::vector<int32_t> key_counts;
  int32_t sink_tokens = 4;
  int32_t window = 64;
  int32_t max_selected = 20;
  int32_t page_size = 0;  ///< 0: a contiguous cache
  int32_t max_keys = 0;   ///< 0: the largest count

  int32_t heads() const { return static_cast<int32_t>(modes.size()); }
  int32_t batch() const { return static_cast<int32_t>(key_counts.size()); }
  int32_t capacity() const { return std::max(max_keys, *std::max_element(key_counts.begin(), key_counts.end())); }
  int64_t selected_heads() const { return std::count(modes.begin(), modes.end(), kS); }
};

/// Inputs of a case; what no key of a sequence occupies holds NaN.
struct Problem {
  explicit Problem(const Case& shape) : shape_(shape), q(Dtype::kBfloat16, 0), k(q), v(q) {
    const int64_t row = int64_t{shape.num_key_value_heads} * shape.head_dim;
    q = Array::normal(Dtype::kBfloat16, int64_t{shape.batch()} * shape.query_tokens * shape.heads() * shape.head_dim,
                      1);
    const int32_t page = shape.page_size > 0 ? shape.page_size : shape.capacity();
    pages_per_sequence = (shape.capacity() + page - 1) / page;
    const int64_t pages = int64_t{shape.batch()} * pages_per_sequence + 2;
    sequence_stride = page * row;
    page_table.resize(static_cast<size_t>(shape.batch() * pages_per_sequence));
    std::iota(page_table.begin(), page_table.end(), 0);
    std::mt19937 random(2);
    if (shape.page_size > 0) {
      std::shuffle(page_table.begin(), page_table.end(), random);
    }
    k = Array(Dtype::kBfloat16, pages * sequence_stride);
    v = k;
    std::normal_distribution<float> normal;
    for (int32_t b = 0; b < shape.batch(); ++b) {
      for (int32_t n = 0; n < shape.key_counts[static_cast<size_t>(b)]; ++n) {
        const int64_t base =
            page_table[static_cast<size_t>(b * pages_per_sequence + n / page)] * sequence_stride + n % page * row;
        for (int64_t j = 0; j < row; ++j) {
          k.set(base + j, normal(random));
          v.set(base + j, normal(random));
        }
      }
    }
    select(random);
  }

  /// Some far keys of each query, in random order, sometimes none, sometimes all that fit.
  void select(std::mt19937& random) {
    const int64_t lists = int64_t{shape_.batch()} * shape_.query_tokens * shape_.selected_heads();
    selected.assign(static_cast<size_t>(std::max<int64_t>(1, lists * shape_.max_selected)), -1);
    counts.assign(static_cast<size_t>(std::max<int64_t>(1, lists)), 0);
    for (int64_t list = 0; list < lists; ++list) {
      const int64_t row = list / shape_.selected_heads();
      const int32_t position = shape_.key_counts[static_cast<size_t>(row / shape_.query_tokens)] - shape_.query_tokens +
                               static_cast<int32_t>(row % shape_.query_tokens);
      std::vector<int32_t> far;
      for (int32_t n = shape_.sink_tokens; n <= position - shape_.window; ++n) {
        far.push_back(n);
      }
      std::shuffle(far.begin(), far.end(), random);
      const size_t most = std::min(far.size(), static_cast<size_t>(shape_.max_selected));
      const size_t count = list % 4 == 0 ? most : list % 4 == 1 ? 0 : random() % (most + 1);
      std::copy_n(far.begin(), count, selected.begin() + list * shape_.max_selected);
      counts[static_cast<size_t>(list)] = static_cast<int32_t>(count);
    }
  }

  DecodeAttentionParams params() const {
    DecodeAttentionParams p;
    p.cache.sequence_stride = sequence_stride;
    p.cache.token_stride = int64_t{shape_.num_key_value_heads} * shape_.head_dim;
    p.cache.head_stride = shape_.head_dim;
    p.cache.page_table_stride = pages_per_sequence;
    p.cache.page_size = shape_.page_size;
    p.batch = shape_.batch();
    p.query_tokens = shape_.query_tokens;
    p.num_heads = shape_.heads();
    p.num_key_value_heads = shape_.num_key_value_heads;
    p.head_dim = shape_.head_dim;
    p.max_keys = shape_.capacity();
    p.softmax_scale = 1 / std::sqrt(static_cast<float>(shape_.head_dim));
    p.head_modes = shape_.modes.data();
    p.sink_tokens = shape_.sink_tokens;
    p.window = shape_.window;
    p.max_selected = shape_.max_selected;
    return p;
  }

  struct Result {
    Array o, o_float, lse;
  };
  Result empty_result() const {
    return {Array(Dtype::kBfloat16, q.size()), Array(Dtype::kFloat32, q.size()),
            Array(Dtype::kFloat32, q.size() / shape_.head_dim)};
  }
  void run_reference(DecodePart part, Result& result) const {
    DecodeAttentionParams p = params();
    p.part = part;
    p.q = q.data();
    p.o = result.o.data();
    p.o_float = static_cast<float*>(result.o_float.data());
    p.lse = static_cast<float*>(result.lse.data());
    p.cache.k = k.data();
    p.cache.v = v.data();
    p.cache.page_table = shape_.page_size > 0 ? page_table.data() : nullptr;
    p.key_counts = shape_.key_counts.data();
    p.selected = selected.data();
    p.selected_counts = counts.data();
    reference::decode_attention(p);
  }

  const Case& shape_;
  Array q, k, v;
  int64_t sequence_stride = 0;
  int32_t pages_per_sequence = 0;
  std::vector<int32_t> page_table, selected, counts;
};

TEST(DecodeAttention, ReferencePartsMergeToTheWhole) {
  const Case shape{.modes = {kL, kS, kD, kS},
                   .num_key_value_heads = 2,
                   .query_tokens = 3,
                   .key_counts = {200, 3, 77},
                   .window = 20,
                   .page_size = 16};
  const Problem problem(shape);
  Problem::Result whole = problem.empty_result();
  Problem::Result parts = problem.empty_result();
  problem.run_reference(DecodePart::kAll, whole);
  problem.run_reference(DecodePart::kResident, parts);
  EXPECT_TRUE(parts.o.is_untouched(shape.head_dim)) << "a head of kSelected is not finished yet";
  problem.run_reference(DecodePart::kSelected, parts);
  testing::expect_close_lse(parts.lse, whole.lse, 1e-5);
  testing::expect_same_up_to_rounding(parts.o, whole.o, Dtype::kBfloat16, 1);
}

TEST(DecodePlan, RangesCoverEveryIndexOnce) {
  for (const int32_t count : {0, 1, 15, 16, 17, 1000, 8196}) {
    for (const int32_t splits : {1, 2, 7, 128}) {
      int32_t next = 0;
      for (int32_t i = 0; i < splits; ++i) {
        const sm90::IndexRange range = sm90::split_range(count, splits, i);
        ASSERT_EQ(range.begin, std::min(next, count));
        ASSERT_GE(range.end, range.begin);
        next = range.end;
      }
      EXPECT_EQ(next, count);
    }
  }
}

TEST(DecodePlan, ResidentAndFarKeysPartitionTheSequence) {
  for (const int32_t keys : {1, 5, 63, 64, 65, 200}) {
    for (const int32_t tokens : {1, 3}) {
      for (const int32_t window : {1, 10, 64, 1000}) {
        for (const int32_t sinks : {0, 4, 100}) {
          if (tokens > keys) {
            continue;
          }
          const sm90::ResidentKeys resident(keys, tokens, window, sinks);
          std::vector<int> seen(static_cast<size_t>(keys));
          for (int32_t i = 0; i < resident.count; ++i) {
            ++seen[static_cast<size_t>(resident.key(i))];
          }
          for (int32_t i = 0; i < resident.far_count(); ++i) {
            ++seen[static_cast<size_t>(resident.sinks + i)];
          }
          EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; }));
          EXPECT_LE(resident.sinks, sinks);
          EXPECT_LE(resident.first_window_key, std::max(0, keys - tokens - window + 1));
        }
      }
    }
  }
}

TEST(DecodePlan, FillsTheDeviceOnceWhenTheWorkIsSmall) {
  const std::vector<HeadMode> modes(32, kL);
  DecodeAttentionParams params;
  params.batch = 1;
  params.query_tokens = 1;
  params.num_heads = 32;
  params.num_key_value_heads = 4;
  params.max_keys = 131072;
  params.window = 8192;
  params.sink_tokens = 4;
  params.head_modes = modes.data();
  const sm90::DecodePlan plan = sm90::make_decode_plan(params, 132);
  EXPECT_LE(4 * plan.units(), 264);
  EXPECT_GT(4 * plan.units(), 200);
  EXPECT_EQ(plan.far_splits, 0);
  EXPECT_EQ(plan.selected_splits, 0);
}

TEST(DecodePlan, FewResidentKeysLeaveRoomBesideAnIndex) {
  const std::vector<HeadMode> modes(32, kL);
  DecodeAttentionParams params;
  params.batch = 1;
  params.query_tokens = 1;
  params.num_heads = 32;
  params.num_key_value_heads = 4;
  params.max_keys = 1 << 20;
  params.window = 8192;
  params.sink_tokens = 4;
  params.head_modes = modes.data();
  params.part = DecodePart::kResident;
  const int32_t alone = sm90::make_decode_plan(params, 132).units();
  EXPECT_LE(4 * alone, 132);
  EXPECT_GT(4 * alone, 100);
  params.batch = 16;
  EXPECT_GT(64 * sm90::make_decode_plan(params, 132).units(), 200) << "many keys are streamed by all blocks";
}

#ifdef RETROSPARSE_WITH_CUDA
class DecodeAttentionGpu : public ::testing::Test {
 protected:
  void SetUp() override { RETROSPARSE_REQUIRE_GPU(); }

  static void check(const Case& shape, int reruns = 1) {
    SCOPED_TRACE(::testing::Message() << "batch " << shape.batch() << ", " << shape.query_tokens << " query tokens, "
                                      << shape.heads() << " heads of " << shape.head_dim << ", window " << shape.window
                                      << ", pages of " << shape.page_size << ", first count " << shape.key_counts[0]);
    const Problem problem(shape);
    Problem::Result expected = problem.empty_result();
    problem.run_reference(DecodePart::kAll, expected);

    testing::DeviceArray q(problem.q), k(problem.k), v(problem.v);
    testing::DeviceVector<int32_t> key_counts(shape.key_counts), page_table(problem.page_table);
    testing::DeviceVector<int32_t> selected(problem.selected), counts(problem.counts);
    DecodeAttentionParams p = problem.params();
    p.q = q.data();
    p.cache.k = k.data();
    p.cache.v = v.data();
    p.cache.page_table = shape.page_size > 0 ? page_table.data() : nullptr;
    p.key_counts = key_counts.data();
    p.selected = selected.data();
    p.selected_counts = counts.data();
    const auto run = [&](const std::vector<DecodePart>& parts) {
      const Problem::Result poison = problem.empty_result();
      testing::DeviceArray o(poison.o), o_float(poison.o_float), lse(poison.lse);
      p.o = o.data();
      p.o_float = static_cast<float*>(o_float.data());
      p.lse = static_cast<float*>(lse.data());
      for (const DecodePart part : parts) {
        p.part = part;
        testing::DeviceVector<uint8_t> workspace(std::vector<uint8_t>(sm90::decode_attention_workspace(p), 0));
        p.workspace = workspace.data();
        EXPECT_EQ(sm90::decode_attention(p, nullptr), cudaSuccess);
        const std::vector<uint8_t> after = workspace.fetch();
        EXPECT_TRUE(std::all_of(after.begin(), after.end(), [](uint8_t b) { return b == 0; }));
      }
      testing::expect_close_attention(o.fetch(), expected.o);
      testing::expect_close_lse(lse.fetch(), expected.lse, 1e-4);
      return o.fetch();
    };
    const Array first = run({DecodePart::kAll});
    for (int i = 0; i < reruns; ++i) {
      ASSERT_EQ(run({DecodePart::kAll}), first) << "a rerun differs";
    }
    run({DecodePart::kResident, DecodePart::kSelected});
  }
};

TEST_F(DecodeAttentionGpu, EveryLengthAndMode) {
  for (const int32_t head_dim : {64, 128}) {
    for (const int32_t count : {1, 15, 16, 17, 63, 64, 65, 129, 1000}) {
      check({.modes = {kL, kD, kS, kL, kS, kD}, .num_key_value_heads = 2, .head_dim = head_dim, .key_counts = {count}});
    }
  }
}

TEST_F(DecodeAttentionGpu, SpeculativeTokensAndBatches) {
  for (const int32_t tokens : {2, 5, 8}) {
    check({.modes = {kL, kD, kS, kS, kL, kL, kD, kS},
           .query_tokens = tokens,
           .key_counts = {tokens, 100, 777},
           .window = 30});
  }
  check({.modes = std::vector<HeadMode>(24, kS), .query_tokens = 3, .key_counts = {300}, .window = 10});
}

TEST_F(DecodeAttentionGpu, PagesAndRoomToGrow) {
  for (const int32_t page_size : {1, 16, 64}) {
    check({.modes = {kL, kD, kS, kL}, .key_counts = {500, 33}, .page_size = page_size, .max_keys = 4000});
  }
}

TEST_F(DecodeAttentionGpu, WindowsSinksAndEmptySelections) {
  for (const int32_t window : {1, 64, 5000}) {
    for (const int32_t sinks : {0, 100}) {
      check({.modes = {kL, kS}, .key_counts = {400}, .sink_tokens = sinks, .window = window});
    }
  }
  check({.modes = {kL, kS}, .key_counts = {400}, .max_selected = 0});
}

TEST_F(DecodeAttentionGpu, RerunsAreBitwiseEqual) {
  check({.modes = {kL, kD, kS, kL}, .head_dim = 128, .key_counts = {5000, 4000}, .window = 1000, .max_selected = 500},
        20);
}
#endif

}  // namespace
}  // namespace retrosparse::kernels
