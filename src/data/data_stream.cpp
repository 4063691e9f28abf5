#include "data/data_stream.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/hash.h"

namespace retrosparse {

nlohmann::json DataState::to_json() const {
  return {{"samples", samples}, {"fingerprint", fingerprint}};
}

DataState DataState::from_json(const JsonObject& json) {
  DataState state{json.get<int64_t>("samples"), json.get<std::string>("fingerprint")};
  if (state.samples < 0) {
    throw json.out_of_range("samples", "a number of samples");
  }
  return state;
}

DataStream::DataStream(std::vector<WeightedSource> sources, int64_t rank, int64_t world_size)
    : sources_(std::move(sources)), rank_(rank), world_size_(world_size), drawn_(sources_.size()) {
  if (sources_.empty()) {
    throw Error("there is no source of training data");
  }
  std::set<std::string> names;
  Hasher hasher;
  for (const WeightedSource& source : sources_) {
    if (!(source.weight > 0) || !std::isfinite(source.weight)) {
      throw Error(fmt::format("source '{}': the weight is impossible", source.name))
          .expected("a number above 0")
          .found(fmt::format("{:g}", source.weight));
    }
    if (!names.insert(source.name).second) {
      throw Error(fmt::format("two sources of training data are named '{}'", source.name));
    }
    if (source.source->context_length() != context_length()) {
      throw Error(fmt::format("source '{}': its samples have another length than the others", source.name))
          .expected(fmt::format("{} tokens", context_length()))
          .found(fmt::format("{} tokens", source.source->context_length()));
    }
    total_weight_ += source.weight;
    hasher.update(fmt::format("{} {} {};", source.name, source.weight, source.source->fingerprint()));
  }
  fingerprint_ = hasher.hex();
}

size_t DataStream::draw() {
  size_t furthest_behind = 0;
  double largest_gap = -1;
  const auto total = static_cast<double>(++samples_);
  for (size_t i = 0; i < sources_.size(); ++i) {
    const double gap = total * sources_[i].weight / total_weight_ - static_cast<double>(drawn_[i]);
    if (gap > largest_gap) {
      largest_gap = gap;
      furthest_behind = i;
    }
  }
  ++drawn_[furthest_behind];
  return furthest_behind;
}

Sample DataStream::next() {
  Sample sample;
  for (int64_t rank = 0; rank < world_size_; ++rank) {
    const size_t source = draw();
    if (rank == rank_) {
      sample = sources_[source].source->sample(drawn_[source] - 1);
    }
  }
  return sample;
}

void DataStream::restore(const DataState& state) {
  if (state.fingerprint != fingerprint_) {
    throw Error(
        "the training data are not those that this state was saved with: files, their mixture, the context "
        "length, the tokenizer or the seed have changed");
  }
  samples_ = 0;
  drawn_.assign(sources_.size(), 0);
  while (samples_ < state.samples) {
    draw();
  }
}

}  // namespace retrosparse
