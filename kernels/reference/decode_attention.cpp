#include "retrosparse_kernels/decode_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "reference/numeric.h"

namespace retrosparse::kernels::reference {
namespace {

template <class T>
class Step {
 public:
  explicit Step(const DecodeAttentionParams& params)
      : params_(params),
        selected_heads_(std::count(params.head_modes, params.head_modes + params.num_heads, HeadMode::kSelected)) {}

  void run() {
    for (int32_t b = 0; b < params_.batch; ++b) {
      for (int32_t t = 0; t < params_.query_tokens; ++t) {
        for (int32_t h = 0; h < params_.num_heads; ++h) {
          query(b, t, h);
        }
      }
    }
  }

 private:
  const T* row(const void* tensor, int32_t b, int32_t n, int32_t group) const {
    const KeyValueCache& cache = params_.cache;
    int64_t sequence = b;
    int64_t token = n;
    if (cache.page_table != nullptr) {
      sequence = cache.page_table[b * cache.page_table_stride + n / cache.page_size];
      token = n % cache.page_size;
    }
    return static_cast<const T*>(tensor) + sequence * cache.sequence_stride + token * cache.token_stride +
           group * cache.head_stride;
  }

  /// The keys of this call's part.
  std::vector<int32_t> visible_keys(int32_t b, int32_t t, int32_t h) const {
    const HeadMode mode = params_.head_modes[h];
    const int32_t position = params_.key_counts[b] - params_.query_tokens + t;
    std::vector<int32_t> keys;
    if (params_.part != DecodePart::kSelected) {
      for (int32_t n = 0; n <= position; ++n) {
        if (mode == HeadMode::kDense || position - n < params_.window || n < params_.sink_tokens) {
          keys.push_back(n);
        }
      }
    }
    if (params_.part != DecodePart::kResident && mode == HeadMode::kSelected) {
      const int64_t r = std::count(params_.head_modes, params_.head_modes + h, HeadMode::kSelected);
      const int64_t list = (static_cast<int64_t>(b) * params_.query_tokens + t) * selected_heads_ + r;
      const int32_t* selected = params_.selected + list * params_.max_selected;
      keys.insert(keys.end(), selected, selected + params_.selected_counts[list]);
    }
    return keys;
  }

  void query(int32_t b, int32_t t, int32_t h) {
    const bool merges = params_.part == DecodePart::kSelected;
    const bool hands_on = params_.part == DecodePart::kResident && params_.head_modes[h] == HeadMode::kSelected;
    if (merges && params_.head_modes[h] != HeadMode::kSelected) {
      return;
    }
    const int32_t dim = params_.head_dim;
    const int32_t group = h / (params_.num_heads / params_.num_key_value_heads);
    const int64_t index = (static_cast<int64_t>(b) * params_.query_tokens + t) * params_.num_heads + h;
    const T* q = static_cast<const T*>(params_.q) + index * dim;
    const std::vector<int32_t> keys = visible_keys(b, t, h);
    std::vector<double> scores;
    double max = merges ? static_cast<double>(params_.lse[index]) : -INFINITY;
    for (const int32_t n : keys) {
      const T* k = row(params_.cache.k, b, n, group);
      double score = 0;
      for (int32_t j = 0; j < dim; ++j) {
        score += static_cast<double>(to_float(q[j])) * static_cast<double>(to_float(k[j]));
      }
      scores.push_back(score * static_cast<double>(params_.softmax_scale));
      max = std::max(max, scores.back());
    }

    std::vector<double> out(static_cast<size_t>(dim), 0.0);
    double sum = 0;
    if (merges) {
      sum = std::exp(static_cast<double>(params_.lse[index]) - max);
      for (int32_t j = 0; j < dim; ++j) {
        out[static_cast<size_t>(j)] = sum * static_cast<double>(params_.o_float[index * dim + j]);
      }
    }
    for (size_t i = 0; i < keys.size(); ++i) {
      const T* v = row(params_.cache.v, b, keys[i], group);
      const double weight = std::exp(scores[i] - max);
      sum += weight;
      for (int32_t j = 0; j < dim; ++j) {
        out[static_cast<size_t>(j)] += weight * static_cast<double>(to_float(v[j]));
      }
    }
    for (int32_t j = 0; j < dim; ++j) {
      const auto value = static_cast<float>(out[static_cast<size_t>(j)] / sum);
      if (hands_on) {
        params_.o_float[index * dim + j] = value;
      } else {
        static_cast<T*>(params_.o)[index * dim + j] = from_float<T>(value);
      }
    }
    if (params_.lse != nullptr) {
      params_.lse[index] = static_cast<float>(max + std::log(sum));
    }
  }

  const DecodeAttentionParams& params_;
  const int64_t selected_heads_;
};

}  // namespace

void decode_attention(const DecodeAttentionParams& params) {
  switch (params.dtype) {
    case Dtype::kFloat32:
      return Step<float>(params).run();
    case Dtype::kFloat16:
      return Step<Float16>(params).run();
    case Dtype::kBfloat16:
      return Step<Bfloat16>(params).run();
  }
}

}  // namespace retrosparse::kernels::reference
