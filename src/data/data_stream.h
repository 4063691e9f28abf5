#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/sample.h"

namespace retrosparse {

/// Where a DataStream stands: the same on every rank, and good for any number of ranks.
struct DataState {
  int64_t samples = 0;      ///< handed out so far, on all ranks together
  std::string fingerprint;  ///< of what they come from

  nlohmann::json to_json() const;

  /// Error: a key is missing, of the wrong type, or negative.
  static DataState from_json(const JsonObject& json);

  bool operator==(const DataState&) const = default;
};

/// One of the sources that are mixed. Of n samples it gives about n * weight / (sum of all weights).
struct WeightedSource {
  std::string name;
  double weight = 1;
  std::shared_ptr<SampleSource> source;
};

/// The samples that training sees: a mixture of sources, shared out to data-parallel ranks. The order is fixed: each
/// next sample is of the source that is furthest behind its share (the first of equals), so every prefix of the stream
/// holds the mixture. Rank r of n gets the samples r, r + n, r + 2n, ...
class DataStream {
 public:
  /// Error: no source, a weight that is not positive and finite, a name given twice, different context lengths.
  explicit DataStream(std::vector<WeightedSource> sources, int64_t rank = 0, int64_t world_size = 1);

  /// This rank's next sample. All ranks have to call it equally often.
  Sample next();

  int64_t context_length() const { return sources_.front().source->context_length(); }

  /// To continue here later.
  DataState state() const { return {samples_, fingerprint_}; }

  /// Goes to where `state` was taken. Error: it was taken from other data or with other settings.
  void restore(const DataState& state);

 private:
  size_t draw();  // the source of the next sample, which is then counted

  std::vector<WeightedSource> sources_;
  double total_weight_ = 0;
  int64_t rank_, world_size_;
  std::string fingerprint_;
  int64_t samples_ = 0;
  std::vector<int64_t> drawn_;  // of each source
};

}  // namespace retrosparse
