#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/corpus.h"
#include "data/packing.h"
#include "data/sample.h"

namespace retrosparse {

/// Documents in random order, cut and packed into samples without gaps (see pack()), epoch after epoch; each epoch has
/// another order of the documents and of the samples, by the seed.
class PackedSource : public SampleSource {
 public:
  /// Prompts with responses that are longer than the context are left out with a warning. Error: the documents do not
  /// make up one sample (says how many tokens there are).
  PackedSource(std::string name, Documents documents, int64_t context_length, SpecialTokens special, uint64_t seed);

  Sample sample(int64_t index) override;
  int64_t context_length() const override { return context_length_; }
  std::string fingerprint() const override;

  /// The number of samples in the first epoch: as many come before any text is seen twice.
  int64_t first_epoch_size();

 private:
  void leave_out_too_long();
  void plan_epoch(int64_t epoch, int64_t first_index);

  std::string name_;
  Documents documents_;
  int64_t context_length_;
  SpecialTokens special_;
  uint64_t seed_;

  // The epoch whose samples are planned.
  int64_t epoch_ = 0, first_index_ = 0;
  std::vector<std::vector<Fragment>> plan_;
};

}  // namespace retrosparse
