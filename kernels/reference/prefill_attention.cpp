#include "retrosparse_kernels/prefill_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "reference/numeric.h"

namespace retrosparse::kernels::reference {
namespace {

/// Whether the query at `position` of a sequence sees key n <= position in this part. `selected` is its query tile's
/// row of bits.
bool is_visible(const PrefillAttentionParams& params, HeadMode mode, int32_t position, int32_t n,
                const uint32_t* selected) {
  const bool resident = mode == HeadMode::kDense || position - n < params.window || n < params.sink_tokens;
  if (selected == nullptr) {
    return resident;
  }
  const int32_t tile = n / kPrefillKeyTile;
  const bool is_selected = (selected[tile / 32] >> (tile % 32) & 1u) != 0;
  return params.part == PrefillPart::kSelected ? is_selected && !resident : is_selected || resident;
}

template <class T>
class Head {
 public:
  Head(const PrefillAttentionParams& params, int32_t head)
      : params_(params),
        head_(head),
        mode_(params.head_modes[head]),
        tiles_row_(std::count(params.head_modes, params.head_modes + head, HeadMode::kSelected)) {
    const int32_t group = head / (params.num_heads / params.num_key_value_heads);
    q_ = static_cast<const T*>(params.q) + head * params.q_head_stride;
    k_ = static_cast<const T*>(params.k) + group * params.k_head_stride;
    v_ = static_cast<const T*>(params.v) + group * params.v_head_stride;
    o_ = static_cast<T*>(params.o) + head * params.o_head_stride;
  }

  void run() {
    if (params_.part == PrefillPart::kSelected && mode_ != HeadMode::kSelected) {
      return;
    }
    int64_t first_tile = 0;
    for (int32_t s = 0; s < params_.num_sequences; ++s) {
      const PrefillSequence& sequence = params_.sequences[s];
      for (int32_t i = 0; i < sequence.query_count; ++i) {
        query(sequence, i, first_tile + i / kPrefillQueryTile);
      }
      first_tile += (sequence.query_count + kPrefillQueryTile - 1) / kPrefillQueryTile;
    }
  }

 private:
  void query(const PrefillSequence& sequence, int32_t i, int64_t query_tile) {
    const int32_t dim = params_.head_dim;
    const int32_t position = sequence.key_count - sequence.query_count + i;
    const T* q = q_ + static_cast<int64_t>(sequence.query_begin + i) * params_.q_token_stride;
    const uint32_t* selected = mode_ != HeadMode::kSelected || params_.part == PrefillPart::kResident
                                   ? nullptr
                                   : params_.selected_tiles + tiles_row_ * params_.selected_tiles_head_stride +
                                         query_tile * params_.selected_tiles_query_stride;
    keys_.clear();
    scores_.clear();
    for (int32_t n = 0; n <= position; ++n) {
      if (is_visible(params_, mode_, position, n, selected)) {
        const T* k = k_ + static_cast<int64_t>(sequence.key_begin + n) * params_.k_token_stride;
        double score = 0;
        for (int32_t j = 0; j < dim; ++j) {
          score += static_cast<double>(to_float(q[j])) * static_cast<double>(to_float(k[j]));
        }
        keys_.push_back(n);
        scores_.push_back(score * static_cast<double>(params_.softmax_scale));
      }
    }

    const int64_t row = sequence.query_begin + i;
    T* o = o_ + row * params_.o_token_stride;
    float* lse = params_.lse == nullptr ? nullptr : params_.lse + head_ * params_.lse_head_stride + row;
    const bool merges = params_.part == PrefillPart::kSelected && lse != nullptr;
    double max = merges ? static_cast<double>(*lse) : -INFINITY;
    for (const double score : scores_) {
      max = std::max(max, score);
    }
    double sum = merges ? std::exp(static_cast<double>(*lse) - max) : 0;
    out_.assign(static_cast<size_t>(dim), 0.0);
    for (int32_t j = 0; merges && j < dim; ++j) {
      out_[static_cast<size_t>(j)] = sum * static_cast<double>(to_float(o[j]));
    }
    for (size_t s = 0; s < keys_.size(); ++s) {
      const T* v = v_ + static_cast<int64_t>(sequence.key_begin + keys_[s]) * params_.v_token_stride;
      const double weight = std::exp(scores_[s] - max);
      sum += weight;
      for (int32_t j = 0; j < dim; ++j) {
        out_[static_cast<size_t>(j)] += weight * static_cast<double>(to_float(v[j]));
      }
    }
    for (int32_t j = 0; j < dim; ++j) {
      o[j] = from_float<T>(static_cast<float>(out_[static_cast<size_t>(j)] / sum));
    }
    if (lse != nullptr) {
      *lse = static_cast<float>(max + std::log(sum));
    }
  }

  const PrefillAttentionParams& params_;
  const int32_t head_;
  const HeadMode mode_;
  const int64_t tiles_row_;
  const T* q_;
  const T* k_;
  const T* v_;
  T* o_;
  std::vector<int32_t> keys_;
  std::vector<double> scores_;
  std::vector<double> out_;
};

}  // namespace

void prefill_attention(const PrefillAttentionParams& params, int32_t head) {
  switch (params.dtype) {
    case Dtype::kFloat32:
      return Head<float>(params, head).run();
    case Dtype::kFloat16:
      return Head<Float16>(params, head).run();
    case Dtype::kBfloat16:
      return Head<Bfloat16>(params, head).run();
  }
}

}  // namespace retrosparse::kernels::reference
