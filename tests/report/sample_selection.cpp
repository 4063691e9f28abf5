#include <algorithm>
#include <cmath>
#include <limits>

#include "sample_parts.h"

namespace retrosparse {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

Report::Selection sample_selection(const Report::Profile& profile, Noise& noise) {
  Report::Selection selection;
  selection.samples = 48;
  selection.rows = 1310;
  selection.dense_accuracy = 0.9864;
  selection.far_available = 31740;
  selection.kl_target = 5e-3;
  const auto accuracy = [](double kl) { return 0.9864 - 0.6 * kl; };
  for (const int64_t k : {16, 32, 64, 128, 256, 512, 1024}) {
    const auto tokens = static_cast<double>(k);
    const double oracle = 2.3e-3 * std::pow(64 / tokens, 0.8), index = 7.3e-3 * std::pow(64 / tokens, 0.36);
    selection.points.push_back(
        {.rule = "top_k", .max_tokens = k, .kl = index, .far_tokens = tokens, .accuracy = accuracy(index)});
    selection.points.push_back(
        {.rule = "oracle", .max_tokens = k, .kl = oracle, .far_tokens = tokens, .accuracy = accuracy(oracle)});
  }
  for (const double p : {0.5, 0.7, 0.8, 0.9, 0.95}) {
    const double paper = noise.about(11e-3 * std::pow((1 - p) / 0.1, 0.7), 0.05);
    selection.points.push_back({.rule = "paper",
                                .p = p,
                                .kl = paper,
                                .far_tokens = 4336 * std::pow(0.1 / (1 - p), 0.8),
                                .accuracy = accuracy(paper)});
    for (const int64_t floor : {16, 64, 256}) {
      for (const int64_t cap : {256, 512, 1024}) {
        const double wanted = 700 * std::pow(0.1 / (1 - p), 0.9);
        const double tokens =
            noise.about(std::clamp(0.55 * std::min(wanted, static_cast<double>(cap)) + 0.5 * static_cast<double>(floor),
                                   static_cast<double>(floor), static_cast<double>(cap)),
                        0.06);
        const double kl = noise.about(
            1.9e-3 * std::pow(657 / tokens, 0.45) + 1e-3 * std::pow(16.0 / static_cast<double>(floor), 0.7), 0.1);
        selection.points.push_back({.rule = "top_p",
                                    .p = p,
                                    .min_tokens = floor,
                                    .max_tokens = cap,
                                    .tail_block = 64,
                                    .kl = kl,
                                    .far_tokens = tokens,
                                    .accuracy = accuracy(kl)});
      }
    }
  }
  selection.points.push_back({.rule = "top_p",
                              .p = 0.9,
                              .min_tokens = 64,
                              .max_tokens = 1024,
                              .kl = 6.1e-3,
                              .far_tokens = 402,
                              .accuracy = accuracy(6.1e-3)});
  selection.chosen = Report::SelectionPoint{.rule = "top_p",
                                            .p = 0.8,
                                            .min_tokens = 32,
                                            .max_tokens = 256,
                                            .tail_block = 64,
                                            .by_head = true,
                                            .most_min_tokens = 64,
                                            .most_max_tokens = 512,
                                            .kl = 4.6e-3,
                                            .far_tokens = 187,
                                            .accuracy = 0.9851};
  selection.target_met = true;
  for (size_t layer = 0; layer < profile.mean.size(); ++layer) {
    auto& row = selection.far_tokens.emplace_back(profile.mean[layer].size(), kNan);
    for (const int64_t head : profile.retrieval_heads[layer]) {
      row[static_cast<size_t>(head)] = noise.about(180, 0.9);
      const int64_t half = selection.gates.empty() ? 1 : 2;  // the first head kept what the others did not need
      selection.gates.push_back({.layer = static_cast<int64_t>(layer),
                                 .head = head,
                                 .p = 0.8,
                                 .min_tokens = 64 / half,
                                 .max_tokens = 512 / half});
    }
  }
  return selection;
}

Report::Prefill sample_prefill() {
  return {
      .mode = "tiles",
      .tile_share = 0.02,
      .chosen = {{.tile_share = 0.02, .most_tile_share = 0.04, .density = 0.069, .kl = 0.0108, .accuracy = 0.9853}},
      .kl_target = 12e-3,
      .target_met = true,
      .points = {{.tile_share = 0.1, .density = 0.009, .kl = 0.027, .accuracy = 0.9771},
                 {.tile_share = 0.05, .density = 0.020, .kl = 0.0152, .accuracy = 0.9832},
                 {.tile_share = 0.02,
                  .density = 0.077,
                  .kl = 0.0101,
                  .accuracy = 0.9855,
                  .tasks = {{"vt", 40, 0.031}, {"kv", 128, 0.0036}}},
                 {.tile_share = 0.01, .density = 0.171, .kl = 0.0062, .accuracy = 0.9862},
                 {.tile_share = 0.005, .density = 0.314, .kl = 0.0031, .accuracy = 0.9864},
                 {.tile_share = 0.02, .most_tile_share = 0.04, .density = 0.069, .kl = 0.0108, .accuracy = 0.9853}}};
}

}  // namespace retrosparse
