#pragma once
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace retrosparse {

/// How retrieval heads read a prompt.
enum class PrefillMode {
  kDense,  ///< every key
  kTiles,  ///< of the far keys only those tiles in which the index expects a key with more than tile_share of the mass
};

struct PrefillSettings {
  PrefillMode mode = PrefillMode::kDense;
  double tile_share = 0.02;  ///< in (0, 1]; counts for kTiles
  /// The same of each retrieval head, [layer][place in its retrieval heads]; empty: all have tile_share.
  std::vector<std::vector<double>> tile_shares;

  /// What the retrieval heads of a layer have.
  std::vector<double> shares_of(size_t layer, size_t num_heads) const;
  /// The least and the most of them.
  std::pair<double, double> range_of_shares() const;
  /// "0.02", or "0.01 to 0.04" where heads differ.
  std::string shares_text() const;
  bool operator==(const PrefillSettings&) const = default;
};

}  // namespace retrosparse
