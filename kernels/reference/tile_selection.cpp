#include "retrosparse_kernels/tile_selection.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "reference/numeric.h"

namespace retrosparse::kernels::reference {
namespace {

constexpr int32_t kRun = 384;  // queries that decide together whether to sample

class Head {
 public:
  Head(const TileSelectionParams& params, int32_t r, double* margin) : params_(params), r_(r), margin_(margin) {
    const int32_t heads_per_group = params.num_heads / params.num_key_value_heads;
    int64_t group = 0;
    for (int32_t i = 1; i <= r; ++i) {
      group += params.selected_heads[i] / heads_per_group != params.selected_heads[i - 1] / heads_per_group;
    }
    keys_ = static_cast<const Float16*>(params.keys) + group * params.total_keys * kIndexDim;
  }

  void run() {
    int64_t first_tile = 0;
    for (int32_t s = 0; s < params_.num_sequences; ++s) {
      const PrefillSequence& sequence = params_.sequences[s];
      const int32_t tiles = (sequence.query_count + kPrefillQueryTile - 1) / kPrefillQueryTile;
      for (int32_t tile = 0; tile < tiles; ++tile) {
        clear(sequence, first_tile + tile);
      }
      for (int32_t i = 0; i < sequence.query_count; ++i) {
        query(sequence, i, first_tile + i / kPrefillQueryTile);
      }
      first_tile += tiles;
    }
  }

 private:
  uint32_t* row(int64_t query_tile) const {
    return params_.selected_tiles + r_ * params_.selected_tiles_head_stride +
           query_tile * params_.selected_tiles_query_stride;
  }

  void clear(const PrefillSequence& sequence, int64_t query_tile) {
    const int32_t words = (sequence.key_count + kPrefillKeyTile * 32 - 1) / (kPrefillKeyTile * 32);
    std::fill_n(row(query_tile), words, 0u);
    if (margin_ != nullptr) {
      std::fill_n(margin_row(query_tile), words * 32, -INFINITY);
    }
  }

  double* margin_row(int64_t query_tile) const {
    return margin_ + 32 * (r_ * params_.selected_tiles_head_stride + query_tile * params_.selected_tiles_query_stride);
  }

  void query(const PrefillSequence& sequence, int32_t i, int64_t query_tile) {
    const int64_t query_row = sequence.query_begin + i;
    const auto* q =
        static_cast<const Float16*>(params_.queries) + (query_row * params_.num_selected_heads + r_) * kIndexDim;
    const int32_t first_position = sequence.key_count - sequence.query_count;
    const int32_t end = first_position + i - params_.window + 1;
    scores_.clear();
    for (int32_t n = params_.sink_tokens; n < end; ++n) {
      const Float16* k = keys_ + (int64_t{sequence.key_begin} + n) * kIndexDim;
      double score = 0;
      for (int j = 0; j < kIndexDim; ++j) {
        score += static_cast<double>(to_float(q[j])) * static_cast<double>(to_float(k[j]));
      }
      scores_.push_back(score);
    }

    const int32_t last_of_run = std::min((i / kRun + 1) * kRun, sequence.query_count) - 1;
    const int32_t far_of_last = first_position + last_of_run - params_.window + 1 - params_.sink_tokens;
    const double lse_far = log_sum_exp(sequence, far_of_last >= kTileSampleFrom ? kTileSampleStride : 1);
    if (params_.lse_far != nullptr) {
      params_.lse_far[r_ * params_.gates_head_stride + query_row] = static_cast<float>(lse_far);
    }
    const int32_t head = params_.selected_heads[r_];
    const double local = static_cast<double>(params_.lse_local[head * params_.lse_head_stride + query_row]) -
                         static_cast<double>(params_.gates[r_ * params_.gates_head_stride + query_row]);
    const double larger = std::max(lse_far, local);
    const double total = larger + std::log(std::exp(lse_far - larger) + std::exp(local - larger));
    const double threshold = std::log(static_cast<double>(params_.tile_shares[r_])) + total;
    for (size_t f = 0; f < scores_.size(); ++f) {
      const int64_t tile = (params_.sink_tokens + static_cast<int64_t>(f)) / kPrefillKeyTile;
      if (scores_[f] > threshold) {
        row(query_tile)[tile / 32] |= 1u << (tile % 32);
      }
      if (margin_ != nullptr) {
        double& margin = margin_row(query_tile)[tile];
        margin = std::max(margin, scores_[f] - threshold);
      }
    }
  }

  double log_sum_exp(const PrefillSequence& sequence, int32_t stride) const {
    double max = -INFINITY;
    for (size_t f = first_sample(sequence, stride); f < scores_.size(); f += static_cast<size_t>(stride)) {
      max = std::max(max, scores_[f]);
    }
    double sum = 0;
    for (size_t f = first_sample(sequence, stride); f < scores_.size(); f += static_cast<size_t>(stride)) {
      sum += std::exp(scores_[f] - max);
    }
    return sum > 0 ? max + std::log(stride * (sum - 1) + 1) : -INFINITY;
  }

  size_t first_sample(const PrefillSequence& sequence, int32_t stride) const {
    const int32_t remainder = (sequence.key_begin + params_.sink_tokens) % stride;
    return static_cast<size_t>(remainder == 0 ? 0 : stride - remainder);
  }

  const TileSelectionParams& params_;
  const int32_t r_;
  double* margin_;
  const Float16* keys_;
  std::vector<double> scores_;
};

}  // namespace

void tile_selection(const TileSelectionParams& params, double* margin) {
  for (int32_t r = 0; r < params.num_selected_heads; ++r) {
    Head(params, r, margin).run();
  }
}

}  // namespace retrosparse::kernels::reference
