#pragma once
#include <cstdint>
#include <string>

#include "data/sample.h"
#include "data/text_pool.h"

namespace retrosparse {

/// Samples of running text from random places (see TextPool::take), by the seed. Other than PackedSource it sees a long
/// document at ever new offsets, and some text more often than other.
class CropSource : public SampleSource {
 public:
  /// Error: fewer tokens than one sample has; a document with a response, which a crop would tear from its prompt.
  CropSource(std::string name, Documents documents, int64_t context_length, SpecialTokens special, uint64_t seed);

  Sample sample(int64_t index) override;
  int64_t context_length() const override { return context_length_; }
  std::string fingerprint() const override;

 private:
  std::string name_;
  TextPool pool_;
  int64_t context_length_;
  uint64_t seed_;
};

}  // namespace retrosparse
