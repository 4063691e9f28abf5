#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>

#include "export/settings_json.h"
#include "model/tiny_model.h"

namespace retrosparse {

/// Settings for the model of tiny_config(): 3 layers, 6 query heads in 2 groups.
inline nlohmann::json tiny_settings() {
  return nlohmann::json::parse(R"({
    "version": 1, "sink_tokens": 4, "window": 8, "index_dim": 6,
    "retrieval_heads": {"0": [1, 2], "2": [0, 3, 5]}, "selection": "top_p",
    "gates": {"0": [{"p": 0.9, "min_tokens": 2, "max_tokens": 12}, {"p": 0.95, "min_tokens": 0, "max_tokens": 9}],
              "2": [{"p": 0.8, "min_tokens": 1, "max_tokens": 5}, {"p": 0.5, "min_tokens": 0, "max_tokens": 5},
                    {"p": 1, "min_tokens": 3, "max_tokens": 3}]},
    "prefill": {"mode": "tiles", "tile_share": 0.01}})");
}

/// These settings with a random index.
inline ConvertedModel tiny_conversion(const ModelConfig& config) {
  ConvertedModel model = parse_settings(JsonObject::from(tiny_settings(), "settings"), config, at::kCPU);
  model.sparse.indexer.initialize_random(config.head_dim, 5);
  for (const at::Tensor& gate : model.sparse.indexer.gates()) {
    gate.normal_();
  }
  return model;
}

}  // namespace retrosparse
