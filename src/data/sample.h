#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace retrosparse {

/// Positions [begin, end) of a sequence of tokens.
struct TokenRange {
  int64_t begin = 0, end = 0;

  int64_t size() const { return end - begin; }
  bool operator==(const TokenRange&) const = default;
};

/// One training sequence.
struct Sample {
  std::vector<int64_t> ids;  ///< [context_length]
  std::vector<int64_t>
      document_starts;  ///< positions at which a document, or the rest of one, begins; ascending, first 0
  /// The label tokens, ascending and apart from each other: what a model has to say, as answers to prompts. The row
  /// that predicts the token at position t is t - 1, so no range begins at 0. Empty for running text: every token is
  /// one then.
  std::vector<TokenRange> labels;

  bool operator==(const Sample&) const = default;
};

/// An endless row of training samples, each of which is a function of its index alone: nothing has to be stored to
/// continue at any of them.
class SampleSource {
 public:
  virtual ~SampleSource() = default;

  /// The sample of an index >= 0. Quickest when asked in ascending order. Not to be called by two threads at once.
  virtual Sample sample(int64_t index) = 0;

  /// Tokens in every sample.
  virtual int64_t context_length() const = 0;

  /// Tells whether two sources give the same samples: a digest of everything that they depend on.
  virtual std::string fingerprint() const = 0;
};

}  // namespace retrosparse
