#include "sparse/prefill_settings.h"

#include <fmt/format.h>

#include <algorithm>

namespace retrosparse {

std::vector<double> PrefillSettings::shares_of(size_t layer, size_t num_heads) const {
  return tile_shares.empty() ? std::vector<double>(num_heads, tile_share) : tile_shares.at(layer);
}

std::pair<double, double> PrefillSettings::range_of_shares() const {
  std::pair<double, double> range = {tile_share, tile_share};
  bool first = true;
  for (const std::vector<double>& layer : tile_shares) {
    for (const double share : layer) {
      range = first ? std::pair(share, share) : std::pair(std::min(range.first, share), std::max(range.second, share));
      first = false;
    }
  }
  return range;
}

std::string PrefillSettings::shares_text() const {
  const auto [least, most] = range_of_shares();
  return least == most ? fmt::format("{:g}", least) : fmt::format("{:g} to {:g}", least, most);
}

}  // namespace retrosparse
