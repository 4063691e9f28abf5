// The closed formulas against counting: heads one by one, tokens one by one, retrieval heads drawn at random.
#include "plan/cost.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "model/kv_cache.h"
#include "plan/small_config.h"

namespace retrosparse {
namespace {

constexpr double kFloat = 4, kBfloat16 = 2;

SparseOptions small_options() {
  return {.window = 20, .sink_tokens = 3, .retrieval_share = 0.3, .index_dim = 4, .max_tokens = 9};
}

// Key/value heads that hold at least one of the marked query heads.
double full_groups(const std::vector<bool>& is_retrieval, int64_t group_size) {
  double count = 0;
  for (size_t begin = 0; begin < is_retrieval.size(); begin += static_cast<size_t>(group_size)) {
    const auto first = is_retrieval.begin() + static_cast<std::ptrdiff_t>(begin);
    count += std::any_of(first, first + group_size, [](bool retrieval) { return retrieval; }) ? 1 : 0;
  }
  return count;
}

TEST(SparseShape, MatchesRandomDraws) {
  const ModelConfig config = small_config();  // 18 query heads in 6 groups, 5 of them retrieval heads
  const AttentionShape random = sparse_shape(config, small_options(), Spread::kRandom);
  const AttentionShape worst = sparse_shape(config, small_options(), Spread::kWorst);
  ASSERT_EQ(random.retrieval_heads, 5);
  std::vector<bool> is_retrieval(18, false);
  std::fill_n(is_retrieval.begin(), 5, true);
  std::mt19937 generator(1);
  constexpr int kDraws = 20000;
  double sum = 0, most = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    std::shuffle(is_retrieval.begin(), is_retrieval.end(), generator);
    const double groups = full_groups(is_retrieval, config.group_size());
    sum += groups;
    most = std::max(most, groups);
  }
  EXPECT_NEAR(random.full_groups, sum / kDraws, 0.03);  // standard error 0.006
  EXPECT_EQ(worst.full_groups, most);
}

TEST(SparseShape, HeadsAndGroupsAddUp) {
  const ModelConfig config = small_config();
  for (const Spread spread : {Spread::kRandom, Spread::kWorst}) {
    for (const double share : {0.0, 0.05, 0.5, 1.0}) {
      SparseOptions options = small_options();
      options.retrieval_share = share;
      const AttentionShape shape = sparse_shape(config, options, spread);
      EXPECT_DOUBLE_EQ(shape.retrieval_heads + shape.local_heads, 18);
      EXPECT_DOUBLE_EQ(shape.full_groups + shape.local_groups, 6);
      EXPECT_EQ(shape.full_groups == 0, share == 0);
    }
  }
}

TEST(KvCacheBytes, EqualWhatTheCacheAllocates) {
  const ModelConfig config = small_config();
  KvCache cache(config.num_hidden_layers, config.num_key_value_heads, config.head_dim, at::kBFloat16);
  cache.reserve(300);
  EXPECT_EQ(kv_cache_bytes(config, dense_shape(config), 300, kBfloat16), static_cast<double>(cache.bytes()));
}

TEST(KvCacheBytes, OfLocalGroupsEndAtTheWindow) {
  const ModelConfig config = small_config();
  SparseOptions options = small_options();
  options.retrieval_share = 0;
  const AttentionShape local = sparse_shape(config, options, Spread::kRandom), dense = dense_shape(config);
  for (const double tokens : {1.0, 22.0, 23.0}) {
    EXPECT_EQ(kv_cache_bytes(config, local, tokens, kFloat), kv_cache_bytes(config, dense, tokens, kFloat));
  }
  EXPECT_EQ(kv_cache_bytes(config, local, 1e6, kFloat), kv_cache_bytes(config, dense, 23, kFloat));
}

TEST(TokensIn, IsTheLongestThatFits) {
  const ModelConfig config = small_config();
  for (const AttentionShape& shape : {dense_shape(config), sparse_shape(config, small_options(), Spread::kRandom),
                                      sparse_shape(config, small_options(), Spread::kWorst)}) {
    const auto cache = [&](double tokens) {
      return kv_cache_bytes(config, shape, tokens, kFloat) + index_cache_bytes(shape, tokens, kFloat);
    };
    for (const double bytes : {1.0, 1000.0, 20000.0, 23456.0, 1e6, 1e9}) {
      const double tokens = tokens_in(config, shape, kFloat, bytes);
      EXPECT_LE(cache(tokens), bytes);
      EXPECT_GT(cache(tokens + 1), bytes);
    }
    EXPECT_EQ(tokens_in(config, shape, kFloat, -5), 0);
  }
}

// FLOPs of attention in prefill, query by query and key by key.
double counted_attention(const ModelConfig& config, const AttentionShape& shape, int tokens) {
  double flops = 0;
  for (int query = 1; query <= tokens; ++query) {
    for (int key = 1; key <= query; ++key) {
      // A local head sees as many keys as fit into sinks and window, whichever they are.
      const double heads = shape.retrieval_heads + (key <= shape.near_tokens ? shape.local_heads : 0);
      flops += heads * 4 * static_cast<double>(config.head_dim);
    }
  }
  return flops;
}

TEST(PrefillWork, AttentionGrowsAsCounted) {
  const ModelConfig config = small_config();
  for (const AttentionShape& shape : {dense_shape(config), sparse_shape(config, small_options(), Spread::kRandom)}) {
    const auto flops = [&](int tokens) { return prefill_work(config, shape, tokens, kFloat).flops; };
    // Everything but attention is linear in the length, so it drops out of the second difference.
    for (const int tokens : {5, 10, 23, 60}) {
      const double ours = flops(2 * tokens) - 2 * flops(tokens) + flops(0);
      const double counted =
          counted_attention(config, shape, 2 * tokens) - 2 * counted_attention(config, shape, tokens);
      EXPECT_NEAR(ours, counted, 1e-9 * flops(2 * tokens));
    }
  }
}

TEST(PrefillWork, OfOneTokenIsTwiceTheMatrices) {
  const ModelConfig config = small_config();
  const ParameterCounts counts = count_parameters(config);
  const double attention_to_itself = 4 * 10 * 18;
  EXPECT_EQ(prefill_work(config, dense_shape(config), 1, kFloat).flops,
            2 * (counts.total() - counts.embedding - counts.norms) + attention_to_itself);
}

TEST(PrefillWork, ReadsNoMoreExpertsThanThereAre) {
  ModelConfig config = small_config();
  config.experts = ExpertsConfig{8, 2, 24, true, {true, true, true}};
  const AttentionShape shape = dense_shape(config);
  const double token = kFloat * (40 + 2 * 2 * 10 * 6);  // the embedding's row, keys and values in and out
  const auto weights = [&](double tokens) {
    return prefill_work(config, shape, tokens, kFloat).bytes - tokens * token;
  };
  EXPECT_EQ(weights(2) - weights(1), kFloat * count_parameters(config).active_experts);
  EXPECT_EQ(weights(100), kFloat * (count_parameters(config).total() - count_parameters(config).embedding));
}

TEST(DecodeWork, IsDenseWhileNothingIsFar) {
  const ModelConfig config = small_config();
  const Work dense = decode_work(config, dense_shape(config), 23, kFloat);
  const AttentionShape shape = sparse_shape(config, small_options(), Spread::kRandom);
  const Work sparse = decode_work(config, shape, 23, kFloat);
  EXPECT_EQ(sparse.bytes, dense.bytes);
  EXPECT_EQ(sparse.flops, dense.flops + 2 * 4 * 10 * (shape.retrieval_heads + shape.full_groups));  // the index's own
}

TEST(DecodeWork, PickedTokensAreCapped) {
  const ModelConfig config = small_config();
  const AttentionShape shape = sparse_shape(config, small_options(), Spread::kWorst);
  const auto step = [&](double tokens) {
    const Work before = decode_work(config, shape, tokens, kFloat),
               after = decode_work(config, shape, tokens + 1, kFloat);
    return Work{after.flops - before.flops, after.bytes - before.bytes};
  };
  // Beyond the cap a further token costs its score and the reading of its index key.
  EXPECT_NEAR(step(500).flops, shape.retrieval_heads * 2 * 4, 1e-6);
  EXPECT_NEAR(step(500).bytes, kFloat * shape.full_groups * 4, 1e-6);
  // Before it, it is picked too.
  EXPECT_NEAR(step(25).flops, shape.retrieval_heads * (2 * 4 + 4 * 10), 1e-6);
  EXPECT_NEAR(step(25).bytes, kFloat * (shape.full_groups * 4 + shape.retrieval_heads * 2 * 10), 1e-6);
}

TEST(DecodeWork, DenseReadsTheWholeCacheAndTheWeights) {
  const ModelConfig config = small_config();
  const AttentionShape dense = dense_shape(config);
  const ParameterCounts counts = count_parameters(config);
  const double row = 40;  // of the embedding
  EXPECT_EQ(decode_work(config, dense, 321, kBfloat16).bytes,
            kBfloat16 * (counts.total() - counts.embedding + row) + kv_cache_bytes(config, dense, 321, kBfloat16));
}

TEST(Work, TakesTheSlowerOfComputingAndMoving) {
  EXPECT_EQ((Work{100, 10}.seconds(10, 10)), 10);
  EXPECT_EQ((Work{10, 100}.seconds(10, 10)), 10);
}

}  // namespace
}  // namespace retrosparse
