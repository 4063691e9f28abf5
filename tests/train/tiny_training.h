#pragma once
#include <ATen/ATen.h>

#include <memory>
#include <vector>

#include "base/random.h"
#include "model/tensor_match.h"
#include "model/tiny_model.h"
#include "train/train_index.h"

namespace retrosparse {

/// Random tokens: sample i is a function of i alone.
class RandomTokens : public SampleSource {
 public:
  RandomTokens(int64_t length, uint64_t seed) : length_(length), seed_(seed) {}

  Sample sample(int64_t index) override {
    Random random{seed_, static_cast<uint64_t>(index)};
    Sample sample{{}, {0}, {}};
    for (int64_t i = 0; i < length_; ++i) {
      sample.ids.push_back(random.between(0, 60));
    }
    return sample;
  }
  int64_t context_length() const override { return length_; }
  std::string fingerprint() const override { return std::to_string(length_) + " " + std::to_string(seed_); }

 private:
  int64_t length_;
  uint64_t seed_;
};

/// A model with random weights and an index to train, the same in every process.
struct TinyTraining {
  TemporaryFolder checkpoint;
  ModelConfig config = write_tiny_checkpoint(checkpoint.path());
  Model model = Model::load(checkpoint.path(), at::kCPU, at::kFloat);
  HeadPlan plan{6, 2, {2, 8}, {{0, 4}, {}, {1, 2}}};
  Indexer indexer = make_indexer();
  IndexTrainingOptions options{
      .steps = 12, .rows_per_document = 24, .learning_rate = {2e-2, 2, Schedule::kCosine}, .seed = 5, .save_every = 5};

  Indexer make_indexer() const {
    Indexer made = Indexer::allocate(plan, config.head_dim, 4, at::kCPU);
    made.initialize_random(config.head_dim, 17);
    return made;
  }

  static DataStream data(const dist::ProcessGroup& group, int64_t length = 64, uint64_t seed = 1) {
    return DataStream({{"random", 1, std::make_shared<RandomTokens>(length, seed)}}, group.rank(), group.world_size());
  }
};

}  // namespace retrosparse
