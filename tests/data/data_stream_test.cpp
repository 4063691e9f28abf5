#include "data/data_stream.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/testing.h"
#include "data/crop_source.h"
#include "data/data_testing.h"
#include "data/packed_source.h"

namespace retrosparse {
namespace {

/// Texts of 1000s, 2000s and 3000s, mixed 5 : 3 : 2.
std::vector<WeightedSource> three_sources(uint64_t seed = 5) {
  const auto text = [&](uint32_t base) { return Documents{make_document(base, 300), make_document(base + 500, 20)}; };
  return {{"a", 5, std::make_shared<PackedSource>("a", text(1000), 10, without_begin(), seed)},
          {"b", 3, std::make_shared<CropSource>("b", text(2000), 10, without_begin(), seed)},
          {"c", 2, std::make_shared<PackedSource>("c", text(3000), 10, without_begin(), seed)}};
}

std::vector<Sample> take(DataStream& stream, int count) {
  std::vector<Sample> samples;
  for (int i = 0; i < count; ++i) {
    samples.push_back(stream.next());
  }
  return samples;
}

TEST(DataStream, EveryBeginningHoldsTheMixture) {
  DataStream stream(three_sources());
  std::vector<int> counts(4);
  for (int i = 1; i <= 500; ++i) {
    const Sample sample = stream.next();
    ++counts[static_cast<size_t>(sample.ids[sample.ids[0] == kEnd ? 1 : 0] / 1000)];
    EXPECT_NEAR(counts[1], 0.5 * i, 1);
    EXPECT_NEAR(counts[2], 0.3 * i, 1);
    EXPECT_NEAR(counts[3], 0.2 * i, 1);
  }
}

TEST(DataStream, ResumesExactly) {
  DataStream whole(three_sources());
  const std::vector<Sample> samples = take(whole, 200);
  for (const int stop : {0, 1, 7, 64, 130}) {
    DataStream before(three_sources());
    take(before, stop);
    const std::string saved = before.state().to_json().dump();
    DataStream after(three_sources());
    take(after, 33);  // wherever it stood
    after.restore(DataState::from_json(JsonObject::parse(saved, "state.json")));
    EXPECT_EQ(after.state(), before.state());
    EXPECT_EQ(take(after, 200 - stop), std::vector<Sample>(samples.begin() + stop, samples.end())) << stop;
  }
}

TEST(DataStream, RanksShareOneStream) {
  DataStream whole(three_sources());
  const std::vector<Sample> samples = take(whole, 120);
  for (const int64_t world_size : {2, 3}) {
    for (int64_t rank = 0; rank < world_size; ++rank) {
      DataStream stream(three_sources(), rank, world_size);
      for (size_t i = static_cast<size_t>(rank); i < samples.size(); i += static_cast<size_t>(world_size)) {
        EXPECT_EQ(stream.next(), samples[i]);
      }
      EXPECT_EQ(stream.state(), whole.state()) << "the same on every rank and for every number of ranks";
    }
  }
}

TEST(DataStream, RefusesAStateOfOtherData) {
  DataStream stream(three_sources());
  const DataState state = stream.state();
  DataStream other_seed(three_sources(6));
  EXPECT_TRUE(contains(error_of([&] { other_seed.restore(state); }), "the training data are not those"));
  std::vector<WeightedSource> sources = three_sources();
  sources[0].weight = 4;
  DataStream other_weight(sources);
  EXPECT_TRUE(contains(error_of([&] { other_weight.restore(state); }), "the training data are not those"));
}

TEST(DataStream, RefusesBrokenStates) {
  const auto parse = [](const char* text) {
    return error_of([&] { DataState::from_json(JsonObject::parse(text, "state.json")); });
  };
  EXPECT_TRUE(contains(parse("{}"), "state.json: key 'samples'"));
  EXPECT_TRUE(contains(parse(R"({"samples": -1, "fingerprint": ""})"), "key 'samples'"));
  EXPECT_TRUE(contains(parse(R"({"samples": 1.5, "fingerprint": ""})"), "key 'samples'"));
  EXPECT_TRUE(contains(parse(R"({"samples": 1})"), "key 'fingerprint'"));
}

TEST(DataStream, RefusesImpossibleMixtures) {
  const auto refused = [](auto change) {
    std::vector<WeightedSource> sources = three_sources();
    change(sources);
    return error_of([&] { DataStream stream(sources); });
  };
  EXPECT_TRUE(contains(refused([](auto& s) { s.clear(); }), "no source"));
  for (const double weight : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    EXPECT_TRUE(contains(refused([&](auto& s) { s[1].weight = weight; }), "source 'b': the weight is impossible"));
  }
  EXPECT_TRUE(contains(refused([](auto& s) { s[1].name = "a"; }), "two sources of training data are named 'a'"));
  EXPECT_TRUE(contains(refused([](auto& s) {
                         s[2].source =
                             std::make_shared<CropSource>("c", Documents{make_document(1, 90)}, 11, without_begin(), 5);
                       }),
                       "source 'c': its samples have another length than the others: expected 10 tokens, found 11"));
}

}  // namespace
}  // namespace retrosparse
