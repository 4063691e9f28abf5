#include "export/settings_json.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "base/testing.h"
#include "export/tiny_conversion.h"

namespace retrosparse {
namespace {

using nlohmann::json;

class SettingsJson : public testing::Test {
 protected:
  void SetUp() override {
    write_config(folder_.path(), tiny_config());
    config_ = ModelConfig::read(folder_.path());
  }

  ConvertedModel parse(const json& settings) {
    return parse_settings(JsonObject::from(settings, "config.json"), config_, at::kCPU);
  }

  TemporaryFolder folder_;
  ModelConfig config_;
};

json with_shares(const json& tile_shares) {
  return {{"mode", "tiles"}, {"tile_shares", tile_shares}};
}

TEST_F(SettingsJson, ReadsEverything) {
  const ConvertedModel model = parse(tiny_settings());
  const SparseModel& sparse = model.sparse;
  EXPECT_NO_THROW(sparse.plan.check(config_));
  EXPECT_EQ(sparse.plan.local, (LocalWindow{4, 8}));
  EXPECT_EQ(sparse.plan.retrieval_heads, (std::vector<std::vector<int64_t>>{{1, 2}, {}, {0, 3, 5}}));
  EXPECT_EQ(sparse.selection.rule, SelectionRule::kTopP);
  EXPECT_EQ(sparse.selection.gates[0][1], (GateSettings{0.95, 0, 9}));
  EXPECT_TRUE(sparse.selection.gates[1].empty());
  EXPECT_EQ(sparse.indexer.index_dim, 6);
  EXPECT_EQ(sparse.indexer.layers[2].q_proj.sizes(), (at::IntArrayRef{3, 6, 8}));
  EXPECT_EQ(sparse.indexer.layers[2].k_proj.sizes(), (at::IntArrayRef{2, 6, 8}));
  EXPECT_EQ(model.sparse.prefill, (PrefillSettings{PrefillMode::kTiles, 0.01, {}}));
}

TEST_F(SettingsJson, WritesWhatItReads) {
  json settings = tiny_settings();
  EXPECT_EQ(json(settings_json(parse(settings))), settings);
  settings["tail_block"] = 8;
  EXPECT_EQ(parse(settings).sparse.selection.tail_block, 8);
  EXPECT_EQ(json(settings_json(parse(settings))), settings);
  settings.erase("tail_block");
  settings["prefill"] = {{"mode", "tiles"}, {"tile_shares", {{"0", {0.01, 0.02}}, {"2", {0.5, 0.04, 1.0}}}}};
  EXPECT_EQ(json(settings_json(parse(settings))), settings);
  EXPECT_EQ(parse(settings).sparse.prefill.shares_of(2, 3), (std::vector<double>{0.5, 0.04, 1}));
  EXPECT_EQ(parse(settings).sparse.prefill.shares_text(), "0.01 to 1");
  settings["selection"] = "paper";
  settings["prefill"] = {{"mode", "dense"}, {"tile_share", 0.5}};
  EXPECT_EQ(json(settings_json(parse(settings))), settings);
  settings["retrieval_heads"] = settings["gates"] = json::object();
  EXPECT_EQ(json(settings_json(parse(settings))), settings);
}

TEST_F(SettingsJson, NeverWritesTheOracle) {
  ConvertedModel model = parse(tiny_settings());
  model.sparse.selection.by_exact_scores = true;
  EXPECT_THROW(settings_json(model), std::logic_error);
}

TEST_F(SettingsJson, RefusesWhatIsWrong) {
  struct Case {
    std::function<void(json&)> change;
    const char* complaint;
  };
  const std::vector<Case> cases = {
      {[](json& s) { s["version"] = 2; }, "version"},
      {[](json& s) { s.erase("window"); }, "window"},
      {[](json& s) { s["window"] = 0; }, "window"},
      {[](json& s) { s["window"] = "8"; }, "window"},
      {[](json& s) { s["sink_tokens"] = -1; }, "sink_tokens"},
      {[](json& s) { s["index_dim"] = 0; }, "index_dim"},
      {[](json& s) { s["index_dim"] = int64_t{1} << 50; }, "index_dim"},
      {[](json& s) { s["windw"] = 8; }, "did you mean 'window'?"},
      {[](json& s) { s["selection"] = "top-p"; }, "did you mean 'top_p'?"},
      {[](json& s) {
         s["retrieval_heads"]["0"] = {2, 1};
       },
       "retrieval_heads.0"},
      {[](json& s) {
         s["retrieval_heads"]["0"] = {1, 1};
       },
       "ascending heads from 0 to 5, found [1, 1]"},
      {[](json& s) {
         s["retrieval_heads"]["0"] = {1, 6};
       },
       "expected ascending heads from 0 to 5, found [1, 6]"},
      {[](json& s) {
         s["retrieval_heads"]["0"] = {-1, 2};
       },
       "retrieval_heads.0"},
      {[](json& s) { s["retrieval_heads"]["0"] = json::array(); }, "retrieval_heads.0"},
      {[](json& s) { s["retrieval_heads"]["3"] = {1}; }, "retrieval_heads.3"},
      {[](json& s) { s["retrieval_heads"]["-1"] = {1}; }, "retrieval_heads.-1"},
      {[](json& s) { s["retrieval_heads"]["00"] = {1}; }, "retrieval_heads.00"},
      {[](json& s) { s["retrieval_heads"]["x"] = {1}; }, "not a layer of this model"},
      {[](json& s) {
         s["retrieval_heads"] = {1, 2};
       },
       "retrieval_heads"},
      {[](json& s) { s["gates"].erase("2"); }, "'retrosparse.gates.2': another number of gates"},
      {[](json& s) { s["gates"]["0"].erase(0); }, "gates.0"},
      {[](json& s) { s["gates"]["1"] = s["gates"]["0"]; }, "gates.1"},
      {[](json& s) { s["gates"]["0"][1]["p"] = 0; }, "gates.0[1].p"},
      {[](json& s) { s["gates"]["0"][1]["p"] = 1.5; }, "gates.0[1].p"},
      {[](json& s) { s["gates"]["0"][1]["min_tokens"] = 10; }, "gates.0[1].max_tokens"},
      {[](json& s) { s["gates"]["0"][1]["cap"] = 10; }, "gates.0[1].cap"},
      {[](json& s) { s["prefill"]["mode"] = "sparse"; }, "prefill.mode"},
      {[](json& s) { s["prefill"].erase("tile_share"); }, "prefill.tile_share"},
      {[](json& s) { s.erase("prefill"); }, "prefill"},
      {[](json& s) {
         s["prefill"]["tile_shares"] = {{"0", {0.1, 0.1}}};
       },
       "prefill.tile_share': beside tile_shares"},
      {[](json& s) {
         s["prefill"] = with_shares({{"0", {0.1, 0.1}}});
       },
       "prefill.tile_shares.2': the retrieval heads of this layer have no tile shares"},
      {[](json& s) {
         s["prefill"] = with_shares({{"0", {0.1}}});
       },
       "expected 2 numbers above 0, at most 1, found [0.1]"},
      {[](json& s) {
         s["prefill"] = with_shares({{"0", {0.1, 0}}});
       },
       "prefill.tile_shares.0"},
      {[](json& s) {
         s["prefill"] = with_shares({{"1", {0.1}}});
       },
       "prefill.tile_shares.1"},
      {[](json& s) { s["tail_block"] = 9; },
       "'retrosparse.tail_block': out of range: expected a whole number from 0 to 8"},
      {[](json& s) { s["tail_block"] = -1; }, "tail_block"},
      {[](json& s) { s["tail_block"] = 2.5; }, "tail_block"},
      {[](json& s) {
         s["tail_block"] = 4;
         s["selection"] = "paper";
       },
       "the paper's rule has no tail"},
  };
  for (const Case& wrong : cases) {
    json config = {{"retrosparse", tiny_settings()}};
    wrong.change(config["retrosparse"]);
    const JsonObject object = JsonObject::from(config, "config.json");
    const std::string message = error_of([&] { parse_settings(object.object("retrosparse"), config_, at::kCPU); });
    EXPECT_TRUE(contains(message, "config.json: ")) << config;
    EXPECT_TRUE(contains(message, wrong.complaint));
  }
}

}  // namespace
}  // namespace retrosparse
