#include "model/model.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/generate.h"
#include "model/plain_attention.h"
#include "model/planned_attention.h"
#include "model/tiny_model.h"

namespace retrosparse {
namespace {

class ModelTest : public testing::Test {
 protected:
  ModelTest() {
    write_tiny_checkpoint(folder_.path());
    at::manual_seed(12);
    const at::Tensor random = at::randint(61, {100}, at::kLong);
    ids_.assign(random.const_data_ptr<int64_t>(), random.const_data_ptr<int64_t>() + random.numel());
  }
  Model load() const { return Model::load(folder_.path(), at::kCPU, at::kFloat); }

  TemporaryFolder folder_;
  std::vector<int64_t> ids_;
};

TEST_F(ModelTest, CachedChunksEqualTheFullPass) {
  const at::NoGradGuard no_grad;
  const Model model = load();
  const at::Tensor full = model.forward(ids_);
  for (const int64_t chunk : {1, 7, 64, 100, 1000}) {
    KvCache cache = model.make_cache();
    std::vector<at::Tensor> parts;
    model.prefill(ids_, chunk, {.cache = &cache}, [&](int64_t first, const at::Tensor& hidden) {
      EXPECT_EQ(first, static_cast<int64_t>(parts.size()) * chunk);
      parts.push_back(hidden);
    });
    EXPECT_EQ(cache.length(), 100);
    EXPECT_LT(max_difference(at::cat(parts), full), 1e-4) << "chunks of " << chunk;
  }
}

TEST_F(ModelTest, PlannedChunksEqualThePlannedFullPass) {
  const at::NoGradGuard no_grad;
  const Model model = load();
  HeadWindows heads(6, LocalWindow{2, 9});
  heads[1] = std::nullopt;
  heads[5] = std::nullopt;
  PlannedAttention attention({heads, heads, HeadWindows(6, LocalWindow{2, 9})}, 2, at::kCPU);
  const at::Tensor full = model.forward(ids_, {.attention = &attention});
  EXPECT_GT(max_difference(full, model.forward(ids_)), 1e-2) << "the plan changes nothing";
  for (const int64_t chunk : {1, 16, 33}) {
    KvCache cache = model.make_cache();
    std::vector<at::Tensor> parts;
    model.prefill(ids_, chunk, {.cache = &cache, .attention = &attention},
                  [&](int64_t, const at::Tensor& hidden) { parts.push_back(hidden); });
    EXPECT_LT(max_difference(at::cat(parts), full), 1e-4) << "chunks of " << chunk;
  }
}

TEST_F(ModelTest, CacheForgetsWhatIsTruncated) {
  const at::NoGradGuard no_grad;
  const Model model = load();
  KvCache cache = model.make_cache();
  const at::IntArrayRef ids(ids_);
  model.forward(ids.slice(0, 40), {.cache = &cache});
  const at::Tensor first = model.forward(ids.slice(40, 20), {.cache = &cache});
  cache.truncate(40);
  model.forward(ids.slice(60, 40), {.cache = &cache});
  cache.truncate(40);
  EXPECT_TRUE(at::equal(model.forward(ids.slice(40, 20), {.cache = &cache}), first));
}

// The observer must see what the attention is computed from: with its q, k and v the layer can be recomputed.
class Recorder : public AttentionObserver, public Attention {
 public:
  void observe(const AttentionInput& input) override { seen.push_back(input); }
  at::Tensor forward(const AttentionInput& input) override {
    EXPECT_EQ(seen.back().layer, input.layer);
    const int64_t num_keys = input.k.size(0);
    return plain_attention(input.q, input.k, input.v, input.scale, visible_keys(input.q.size(0), num_keys, num_keys, 0))
        .to(at::kFloat);
  }
  std::vector<AttentionInput> seen;
};

TEST_F(ModelTest, ObserversSeeQueriesAndKeysBeforeAndAfterRope) {
  const at::NoGradGuard no_grad;
  const Model model = load();
  Recorder recorder;
  const at::Tensor hidden = model.forward(ids_, {.attention = &recorder, .observers = {&recorder}});
  EXPECT_LT(max_difference(hidden, model.forward(ids_)), 1e-4);
  ASSERT_EQ(recorder.seen.size(), 3U);
  const AttentionInput& input = recorder.seen[2];
  EXPECT_EQ(input.q_pre_rope.sizes(), (std::vector<int64_t>{100, 6, 8}));
  EXPECT_EQ(input.k_pre_rope.sizes(), (std::vector<int64_t>{100, 2, 8}));
  // Position 0 is not rotated; rotation keeps lengths everywhere.
  EXPECT_LT(max_difference(input.q[0], input.q_pre_rope[0]), 1e-6);
  EXPECT_GT(max_difference(input.q[50], input.q_pre_rope[50]), 1e-2);
  EXPECT_LT(max_difference(input.k.norm(2, -1), input.k_pre_rope.norm(2, -1)), 1e-4);
}

TEST_F(ModelTest, GradientsReachEveryWeight) {
  const Model model = load();
  std::vector<std::pair<std::string, at::Tensor>> leaves;
  for (const TensorBinding& binding : bind_tensors(model.config(), model.weights())) {
    leaves.emplace_back(binding.name, binding.view.is_view() ? at::Tensor(binding.view._base()) : binding.view);
    leaves.back().second.requires_grad_(true);
  }
  model.logits(model.forward(ids_)).pow(2).mean().backward();
  for (const auto& [name, leaf] : leaves) {
    ASSERT_TRUE(leaf.grad().defined()) << name;
    EXPECT_GT(leaf.grad().abs().max().item<float>(), 0) << name;
  }
}

TEST_F(ModelTest, TokenOutsideTheVocabulary) {
  const Model model = load();
  try {
    model.forward({3, 61});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "token 1 is outside the vocabulary: expected 0 to 60, found 61");
  }
}

TEST_F(ModelTest, GreedyGenerationEqualsRepeatedFullPasses) {
  const Model model = load();
  std::vector<int64_t> sequence(ids_.begin(), ids_.begin() + 30);
  const std::vector<int64_t> got = generate(model, sequence, {.max_new_tokens = 12, .prefill_chunk = 11});
  const at::NoGradGuard no_grad;
  for (const int64_t token : got) {
    const at::Tensor hidden = model.forward(sequence);
    EXPECT_EQ(token, model.logits(hidden)[-1].argmax().item<int64_t>());
    sequence.push_back(token);
  }
  EXPECT_EQ(got.size(), 12U);
}

TEST_F(ModelTest, APromptThatIsDecodedGivesWhatItGivesPrefilled) {
  const Model model = load();
  const std::vector<int64_t> prompt(ids_.begin(), ids_.begin() + 30);
  std::vector<int64_t> positions;
  GenerateOptions options{.max_new_tokens = 12, .prefill_chunk = 11, .decode_from = 17};
  options.on_prompt_logits = [&](int64_t first, const at::Tensor&) { positions.push_back(first); };
  EXPECT_EQ(generate(model, prompt, options), generate(model, prompt, {.max_new_tokens = 12}));
  std::vector<int64_t> expected = {0, 11};
  for (int64_t position = 17; position < 30; ++position) {
    expected.push_back(position);
  }
  EXPECT_EQ(positions, expected);
  for (const int64_t outside : {0, 31}) {
    options.decode_from = outside;
    EXPECT_THROW(generate(model, prompt, options), Error) << outside;
  }
}

TEST_F(ModelTest, StopIdsEndGenerationAndAreNotReturned) {
  const Model model = load();
  const std::vector<int64_t> prompt(ids_.begin(), ids_.begin() + 30);
  const std::vector<int64_t> free_run = generate(model, prompt, {.max_new_tokens = 12});
  const auto first_seen = std::find(free_run.begin(), free_run.end(), free_run[5]);
  const std::vector<int64_t> stopped = generate(model, prompt, {.max_new_tokens = 12, .stop_ids = {free_run[5]}});
  EXPECT_EQ(stopped, std::vector<int64_t>(free_run.begin(), first_seen));
}

TEST_F(ModelTest, ScoresThatAreNotFiniteAreAnErrorWithTheirPlace) {
  const Model model = load();
  const std::vector<int64_t> prompt(ids_.begin(), ids_.begin() + 10);
  const auto error = [&](bool wants_logits) -> std::string {
    GenerateOptions options{.max_new_tokens = 2, .prefill_chunk = 4};
    if (wants_logits) {
      options.on_prompt_logits = [](int64_t, const at::Tensor& rows) {
        EXPECT_TRUE(rows.isfinite().all().item<bool>());
      };
    }
    try {
      generate(model, prompt, options);
      return "";
    } catch (const Error& problem) {
      return problem.what();
    }
  };
  EXPECT_EQ(error(true), "");
  model.weights().embed_tokens[prompt[6]].fill_(std::nan(""));  // tied: every row's scores have a NaN
  EXPECT_NE(error(false).find("scores behind token 9 are not finite numbers"), std::string::npos) << error(false);
  EXPECT_NE(error(true).find("scores behind token 0 are not finite numbers"), std::string::npos) << error(true);
  EXPECT_NE(error(true).find("float32"), std::string::npos);
}

TEST(Sampler, FollowsTheDistributionWithinTopP) {
  const at::Tensor probabilities = at::tensor({0.5, 0.3, 0.15, 0.05});
  Sampler sampler({.temperature = 1, .top_p = 0.75, .seed = 5});
  std::vector<int> counts(4);
  for (int i = 0; i < 2000; ++i) {
    ++counts[static_cast<size_t>(sampler.pick(probabilities.log()).value())];
  }
  EXPECT_NEAR(counts[0], 2000 * 0.5 / 0.8, 100);  // four standard deviations are 87
  EXPECT_NEAR(counts[1], 2000 * 0.3 / 0.8, 100);
  EXPECT_EQ(counts[2] + counts[3], 0);
}

TEST(Sampler, IsGreedyAtTheSmallestTemperature) {
  Sampler sampler({.temperature = 1e-308, .seed = 5});
  EXPECT_EQ(sampler.pick(at::tensor({20.0, 9.0, 30.0, -40.0})), 2);
}

TEST(Sampler, PicksNothingFromScoresThatAreNotFinite) {
  for (const double temperature : {0.0, 1.0}) {
    Sampler sampler({.temperature = temperature});
    EXPECT_TRUE(sampler.pick(at::tensor({1.0, 9.0})).has_value());
    for (const double broken : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      EXPECT_FALSE(sampler.pick(at::tensor({1.0, broken, 9.0})).has_value()) << broken;
    }
  }
}

}  // namespace
}  // namespace retrosparse
