#include "export/settings_json.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/suggest.h"

namespace retrosparse {
namespace {

constexpr int64_t kVersion = 1;
constexpr int64_t kMaxTokens = int64_t{1} << 40;  // of anything counted in tokens: beyond all contexts
constexpr int64_t kMaxIndexDim = 1024;            // as for head_dim

void refuse_unknown_keys(const JsonObject& json, const std::vector<std::string>& known) {
  for (const std::string& key : json.keys()) {
    if (std::ranges::find(known, key) == known.end()) {
      throw json.error(key, "unknown key")
          .expected(fmt::format("{}", fmt::join(known, ", ")))
          .hint(did_you_mean(key, known));
    }
  }
}

int64_t integer(const JsonObject& json, const char* key, int64_t lowest, int64_t highest) {
  const auto value = json.get<int64_t>(key);
  if (value < lowest || value > highest) {
    throw json.out_of_range(key, fmt::format("a whole number from {} to {}", lowest, highest));
  }
  return value;
}

// A number in (0, 1].
double share(const JsonObject& json, const char* key) {
  const auto value = json.get<double>(key);
  if (!(value > 0 && value <= 1)) {
    throw json.out_of_range(key, "a number above 0, at most 1");
  }
  return value;
}

// The keys of an object that are layers, with the layer that each means.
std::vector<std::pair<std::string, size_t>> layers_of(const JsonObject& json, const ModelConfig& config) {
  std::vector<std::pair<std::string, size_t>> layers;
  for (const std::string& key : json.keys()) {
    int64_t layer = -1;
    const auto [end, problem] = std::from_chars(key.data(), key.data() + key.size(), layer);
    const bool canonical = problem == std::errc() && key == std::to_string(layer);
    if (!canonical || layer < 0 || layer >= config.num_hidden_layers) {
      throw json.error(key, "not a layer of this model")
          .expected(fmt::format("0 to {}", config.num_hidden_layers - 1))
          .found("'" + key + "'");
    }
    layers.emplace_back(key, static_cast<size_t>(layer));
  }
  return layers;
}

HeadPlan parse_plan(const JsonObject& json, const ModelConfig& config) {
  HeadPlan plan;
  plan.num_attention_heads = config.num_attention_heads;
  plan.num_key_value_heads = config.num_key_value_heads;
  plan.local = {integer(json, "sink_tokens", 0, kMaxTokens), integer(json, "window", 1, kMaxTokens)};
  plan.retrieval_heads.resize(static_cast<size_t>(config.num_hidden_layers));
  const JsonObject heads_of_layers = json.object("retrieval_heads");
  for (const auto& [key, layer] : layers_of(heads_of_layers, config)) {
    const auto heads = heads_of_layers.get<std::vector<int64_t>>(key);
    const bool in_range =
        std::ranges::all_of(heads, [&](int64_t head) { return head >= 0 && head < config.num_attention_heads; });
    const bool ascending = std::ranges::adjacent_find(heads, std::greater_equal<>()) == heads.end();
    if (heads.empty() || !in_range || !ascending) {
      throw heads_of_layers.error(key, "not a list of retrieval heads")
          .expected(fmt::format("ascending heads from 0 to {}", config.num_attention_heads - 1))
          .found(fmt::format("[{}]", fmt::join(heads, ", ")));
    }
    plan.retrieval_heads[layer] = heads;
  }
  return plan;
}

GateSettings parse_gate(const JsonObject& json) {
  refuse_unknown_keys(json, {"p", "min_tokens", "max_tokens"});
  GateSettings gate;
  gate.p = share(json, "p");
  gate.min_tokens = integer(json, "min_tokens", 0, kMaxTokens);
  gate.max_tokens = integer(json, "max_tokens", gate.min_tokens, kMaxTokens);
  return gate;
}

SelectionSettings parse_selection(const JsonObject& json, const ModelConfig& config, const HeadPlan& plan) {
  SelectionSettings selection;
  try {
    selection.rule = selection_rule(json.get<std::string>("selection"));
  } catch (Error& error) {
    throw error.file(json.file()).key(json.dotted("selection"));
  }
  if (json.has("tail_block")) {
    selection.tail_block = integer(json, "tail_block", 0, plan.local.window);
    if (selection.tail_block > 0 && selection.rule == SelectionRule::kPaper) {
      throw json.wrong_value("tail_block", "0, since the paper's rule has no tail");
    }
  }
  selection.gates.resize(plan.retrieval_heads.size());
  const JsonObject gates_of_layers = json.object("gates");
  for (const auto& [key, layer] : layers_of(gates_of_layers, config)) {
    for (const JsonObject& gate : gates_of_layers.objects(key)) {
      selection.gates[layer].push_back(parse_gate(gate));
    }
  }
  for (size_t layer = 0; layer < selection.gates.size(); ++layer) {
    const size_t heads = plan.retrieval_heads[layer].size(), gates = selection.gates[layer].size();
    if (heads != gates) {
      throw gates_of_layers.error(std::to_string(layer), "another number of gates than of retrieval heads")
          .expected(std::to_string(heads))
          .found(std::to_string(gates));
    }
  }
  return selection;
}

// The shares of a layer's heads.
std::vector<double> parse_shares(const JsonObject& json, const std::string& layer, size_t num_heads) {
  const auto shares = json.get<std::vector<double>>(layer);
  const bool in_range = std::ranges::all_of(shares, [](double share) { return share > 0 && share <= 1; });
  if (shares.size() != num_heads || !in_range) {
    throw json.error(layer, "not the tile shares of this layer's retrieval heads")
        .expected(fmt::format("{} numbers above 0, at most 1", num_heads))
        .found(fmt::format("[{}]", fmt::join(shares, ", ")));
  }
  return shares;
}

PrefillSettings parse_prefill(const JsonObject& json, const ModelConfig& config, const HeadPlan& plan) {
  refuse_unknown_keys(json, {"mode", "tile_share", "tile_shares"});
  PrefillSettings prefill;
  const auto mode = json.get<std::string>("mode");
  if (mode != "dense" && mode != "tiles") {
    throw json.wrong_value("mode", "dense or tiles");
  }
  if (mode == "tiles") {
    prefill.mode = PrefillMode::kTiles;
  }
  if (json.has("tile_shares")) {
    if (json.has("tile_share")) {
      throw json.error("tile_share", "beside tile_shares").expected("one of them");
    }
    const JsonObject shares = json.object("tile_shares");
    prefill.tile_shares.resize(plan.retrieval_heads.size());
    for (const auto& [key, layer] : layers_of(shares, config)) {
      prefill.tile_shares[layer] = parse_shares(shares, key, plan.retrieval_heads[layer].size());
    }
    for (size_t layer = 0; layer < plan.retrieval_heads.size(); ++layer) {
      if (prefill.tile_shares[layer].size() != plan.retrieval_heads[layer].size()) {
        throw shares.error(std::to_string(layer), "the retrieval heads of this layer have no tile shares");
      }
    }
  } else if (mode == "tiles" || json.has("tile_share")) {
    prefill.tile_share = share(json, "tile_share");
  }
  return prefill;
}

// Layers without retrieval heads are left out.
nlohmann::ordered_json by_layer(const std::vector<std::vector<double>>& values) {
  nlohmann::ordered_json result = nlohmann::ordered_json::object();
  for (size_t layer = 0; layer < values.size(); ++layer) {
    if (!values[layer].empty()) {
      result[std::to_string(layer)] = values[layer];
    }
  }
  return result;
}

}  // namespace

nlohmann::ordered_json settings_json(const ConvertedModel& model) {
  using nlohmann::ordered_json;
  if (model.sparse.selection.by_exact_scores) {
    throw std::logic_error("settings that only serve to measure cannot be exported");
  }
  const HeadPlan& plan = model.sparse.plan;
  ordered_json heads = ordered_json::object(), gates = ordered_json::object();
  for (size_t layer = 0; layer < plan.retrieval_heads.size(); ++layer) {
    if (plan.retrieval_heads[layer].empty()) {
      continue;
    }
    const std::string key = std::to_string(layer);
    heads[key] = plan.retrieval_heads[layer];
    for (const GateSettings& gate : model.sparse.selection.gates.at(layer)) {
      gates[key].push_back({{"p", gate.p}, {"min_tokens", gate.min_tokens}, {"max_tokens", gate.max_tokens}});
    }
  }
  const PrefillSettings& prefill = model.sparse.prefill;
  ordered_json reading = {{"mode", prefill.mode == PrefillMode::kTiles ? "tiles" : "dense"}};
  if (prefill.tile_shares.empty()) {
    reading["tile_share"] = prefill.tile_share;
  } else {
    reading["tile_shares"] = by_layer(prefill.tile_shares);
  }
  ordered_json settings = {{"version", kVersion},
                           {"sink_tokens", plan.local.sink_tokens},
                           {"window", plan.local.window},
                           {"index_dim", model.sparse.indexer.index_dim},
                           {"retrieval_heads", heads},
                           {"selection", name_of(model.sparse.selection.rule)},
                           {"gates", gates},
                           {"prefill", reading}};
  if (model.sparse.selection.tail_block > 0) {
    settings["tail_block"] = model.sparse.selection.tail_block;
  }
  return settings;
}

ConvertedModel parse_settings(const JsonObject& json, const ModelConfig& config, at::Device device) {
  if (json.get<int64_t>("version") != kVersion) {
    throw json.wrong_value("version", fmt::format("{} (a newer RetroSparse wrote this?)", kVersion));
  }
  refuse_unknown_keys(json, {"version", "sink_tokens", "window", "index_dim", "retrieval_heads", "selection", "gates",
                             "prefill", "tail_block"});
  ConvertedModel model;
  model.sparse.plan = parse_plan(json, config);
  model.sparse.selection = parse_selection(json, config, model.sparse.plan);
  model.sparse.indexer =
      Indexer::allocate(model.sparse.plan, config.head_dim, integer(json, "index_dim", 1, kMaxIndexDim), device);
  model.sparse.prefill = parse_prefill(json.object("prefill"), config, model.sparse.plan);
  return model;
}

}  // namespace retrosparse
