#pragma once

namespace retrosparse {

/// How retrieval heads read a prompt.
enum class PrefillMode {
  kDense,  ///< every key
  kTiles,  ///< of the far keys only those tiles in which the index expects a key with more than tile_share of the mass
};

struct PrefillSettings {
  PrefillMode mode = PrefillMode::kDense;
  double tile_share = 0.02;  ///< in (0, 1]; counts for kTiles
  bool operator==(const PrefillSettings&) const = default;
};

}  // namespace retrosparse
