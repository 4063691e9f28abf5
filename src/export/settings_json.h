#pragma once
#include <nlohmann/json_fwd.hpp>

#include "base/json.h"
#include "model/config.h"
#include "sparse/sparse_attention.h"

namespace retrosparse {

/// All that a converted model is beside its weights.
struct ConvertedModel {
  SparseModel sparse;
};

/// The key "retrosparse" of config.json (docs/checkpoint.md has every key and what it means):
///   {"version": 1, "sink_tokens": 4, "window": 8192, "index_dim": 16,
///    "retrieval_heads": {"LAYER": [HEAD, ...], ...}, "selection": "top_p" | "top_k" | "paper",
///    "gates": {"LAYER": [{"p": 0.9, "min_tokens": 64, "max_tokens": 1024}, ...], ...},
///    "prefill": {"mode": "dense" | "tiles", "tile_share": 0.02}, "tail_block": 64}
/// Where heads differ, "tile_shares": {"LAYER": [0.02, ...], ...} instead of tile_share.
/// tail_block, tokens that share one mean value in the tail, is left out where there is no tail (0). Layers without
/// retrieval heads are left out; a layer's gates and shares are in the order of its heads.
nlohmann::ordered_json settings_json(const ConvertedModel& model);

/// The reverse, for a model of this configuration; the indexer comes with zero weights. Error naming file and key: what
/// is missing, unknown, mistyped or out of range; a layer or head that the model does not have, heads that are not in
/// ascending order; another number of gates than of heads; a version that this program does not know.
ConvertedModel parse_settings(const JsonObject& json, const ModelConfig& config, at::Device device);

}  // namespace retrosparse
