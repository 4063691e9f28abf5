#include "sparse/indexer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "model/plain_attention.h"
#include "model/rope.h"
#include "ops/rope.h"

namespace retrosparse {
namespace {

HeadPlan plan() {
  return {6, 2, {3, 20}, {{}, {1, 3, 5}, {4}}};
}

TEST(HeadPlan, GivesWindowsAndGroups) {
  const std::vector<HeadWindows> windows = plan().windows();
  EXPECT_EQ(plan().num_retrieval_heads(), 4);
  EXPECT_EQ(plan().groups(0), (std::vector<int64_t>{}));
  EXPECT_EQ(plan().groups(1), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(plan().groups(2), (std::vector<int64_t>{1}));
  EXPECT_FALSE(windows[1][3].has_value());
  EXPECT_EQ(windows[1][4], (LocalWindow{3, 20}));
}

TEST(HeadPlan, RefusesAnotherModelsPlan) {
  ModelConfig config;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 6;
  config.num_key_value_heads = 2;
  EXPECT_NO_THROW(plan().check(config));
  config.num_hidden_layers = 4;
  EXPECT_THROW(plan().check(config), Error);
  config.num_hidden_layers = 3;
  HeadPlan twice = plan();
  twice.retrieval_heads[1] = {3, 3};
  EXPECT_THROW(twice.check(config), Error);
}

TEST(Indexer, ScoresAreTheProductsOfTheProjections) {
  at::manual_seed(41);
  Indexer indexer = Indexer::allocate(plan(), 8, 4, at::kCPU);
  indexer.initialize_random(8, 1);
  const LayerIndexer& layer = indexer.layers[1];
  const at::Tensor q = at::randn({5, 6, 8}), k = at::randn({9, 2, 8});
  const at::Tensor scores = layer.scores(layer.queries(q), layer.keys(k));
  for (int64_t head = 0; head < 3; ++head) {
    const int64_t query_head = layer.heads[static_cast<size_t>(head)], group = query_head / 3;
    const at::Tensor expected = q.select(1, query_head)
                                    .matmul(layer.q_proj[head].t())
                                    .matmul(k.select(1, group).matmul(layer.k_proj[group].t()).t());
    EXPECT_LT(max_difference(scores[head], expected), 1e-5);
  }
}

// With index_dim = head_dim the initial index is the exact attention score without rotation: at distance 0.
TEST(Indexer, RopeInitialisationKeepsTheSlowPairs) {
  at::manual_seed(42);
  const int64_t head_dim = 32;
  Indexer full = Indexer::allocate(plan(), head_dim, head_dim, at::kCPU);
  full.initialize_from_rope(head_dim, 0, 1);
  const at::Tensor q = at::randn({4, 6, head_dim}), k = at::randn({7, 2, head_dim});
  const LayerIndexer& layer = full.layers[1];
  const at::Tensor scores = layer.scores(layer.queries(q), layer.keys(k));
  EXPECT_LT(max_difference(scores[0], q.select(1, 1).matmul(k.select(1, 0).t()) / std::sqrt(32.0)), 1e-5);

  // The pairs that 8 index dimensions keep are those whose rotation changes the score least over a long distance.
  Indexer narrow = Indexer::allocate(plan(), head_dim, 8, at::kCPU);
  narrow.initialize_from_rope(head_dim, 0, 1);
  const at::Tensor kept = narrow.layers[1].q_proj[0].ne(0).any(0);  // [head_dim]
  const RopeTables tables = Rope(RopeConfig{.theta = 1e6}, head_dim, at::kCPU).tables(1000, 1);
  const at::Tensor turned = tables.cos.lt(0.99).squeeze(0);  // pairs that moved
  EXPECT_EQ(kept.sum().item<int64_t>(), 8);
  EXPECT_FALSE(at::cat({turned, turned}).logical_and(kept).any().item<bool>());
}

TEST(Indexer, NamedTensorsRoundTrip) {
  Indexer indexer = Indexer::allocate(plan(), 8, 4, at::kCPU), other = Indexer::allocate(plan(), 8, 4, at::kCPU);
  indexer.initialize_random(8, 3);
  std::map<std::string, at::Tensor> tensors = indexer.named_tensors();
  EXPECT_EQ(tensors.size(), 8U);
  EXPECT_EQ(tensors.at("model.layers.2.self_attn.indexer.k_proj.weight").sizes(), (std::vector<int64_t>{1, 4, 8}));
  other.load(tensors);
  for (const auto& [name, tensor] : other.named_tensors()) {
    EXPECT_TRUE(at::equal(tensor, tensors.at(name))) << name;
  }
  tensors["model.layers.1.self_attn.indexer.gate.bias"] = at::zeros({4});
  EXPECT_THROW(other.load(tensors), Error);
  tensors.erase("model.layers.1.self_attn.indexer.gate.bias");
  EXPECT_THROW(other.load(tensors), Error);
}

}  // namespace
}  // namespace retrosparse
