#include "retrosparse_kernels/decode_selection.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "reference/numeric.h"

namespace retrosparse::kernels::reference {
namespace {

struct Candidate {
  float score;
  int32_t position;
};

const Bfloat16* index_key(const IndexCache& cache, int64_t sequence, int64_t group, int32_t n) {
  int64_t token = n;
  if (cache.page_table != nullptr) {
    sequence = cache.page_table[sequence * cache.page_table_stride + n / cache.page_size];
    token = n % cache.page_size;
  }
  return static_cast<const Bfloat16*>(cache.keys) + sequence * cache.sequence_stride + group * cache.group_stride +
         token * kIndexDim;
}

/// Index groups are numbered over the KV groups that hold a selected head.
int64_t index_group(const DecodeSelectionParams& params, int32_t r) {
  const int32_t heads_per_group = params.num_heads / params.num_key_value_heads;
  int64_t group = 0;
  for (int32_t i = 1; i <= r; ++i) {
    group += params.selected_heads[i] / heads_per_group != params.selected_heads[i - 1] / heads_per_group;
  }
  return group;
}

void select(const DecodeSelectionParams& params, int32_t b, int32_t t, int32_t r) {
  const int64_t row = (static_cast<int64_t>(b) * params.query_tokens + t) * params.num_selected_heads + r;
  const float* query = params.queries + row * kIndexDim;
  const int32_t position = params.key_counts[b] - params.query_tokens + t;
  const int64_t group = index_group(params, r);
  std::vector<Candidate> far;
  for (int32_t n = params.sink_tokens; n <= position - params.window; ++n) {
    const Bfloat16* key = index_key(params.cache, b, group, n);
    float score = 0;
    for (int i = 0; i < kIndexDim; ++i) {
      score = std::fma(query[i], to_float(key[i]), score);
    }
    far.push_back({score, n});
  }
  std::sort(far.begin(), far.end(), [](const Candidate& a, const Candidate& c) {
    return a.score > c.score || (a.score == c.score && a.position < c.position);
  });

  const double max = far.empty() ? 0 : static_cast<double>(far[0].score);
  double sum = 0;
  for (const Candidate& candidate : far) {
    sum += std::exp(static_cast<double>(candidate.score) - max);
  }
  const int32_t head = params.selected_heads[r];
  const int64_t lse_index = (static_cast<int64_t>(b) * params.query_tokens + t) * params.num_heads + head;
  const double lse_far = far.empty() ? -INFINITY : max + std::log(sum);
  const double odds =
      lse_far + static_cast<double>(params.gates[row]) - static_cast<double>(params.lse_local[lse_index]);
  const double far_mass = 1 / (1 + std::exp(-odds));
  const SelectionRule& rule = params.rules[r];
  const double share = rule.p < 1 ? 1 - (1 - static_cast<double>(rule.p)) / far_mass : INFINITY;

  double covered = 0;
  int32_t count = 0;
  for (const Candidate& candidate : far) {
    if (!(covered < share * sum)) {
      break;
    }
    covered += std::exp(static_cast<double>(candidate.score) - max);
    ++count;
  }
  count = std::clamp(count, rule.min_tokens, rule.max_tokens);
  count = std::min(count, static_cast<int32_t>(far.size()));
  for (int32_t i = 0; i < count; ++i) {
    params.selected[row * params.max_selected + i] = far[static_cast<size_t>(i)].position;
  }
  std::sort(params.selected + row * params.max_selected, params.selected + row * params.max_selected + count);
  params.selected_counts[row] = count;
  if (params.far_mass != nullptr) {
    params.far_mass[row] = static_cast<float>(far_mass);
  }
}

}  // namespace

void decode_selection(const DecodeSelectionParams& params) {
  for (int32_t b = 0; b < params.batch; ++b) {
    for (int32_t t = 0; t < params.query_tokens; ++t) {
      for (int32_t r = 0; r < params.num_selected_heads; ++r) {
        select(params, b, t, r);
      }
    }
  }
}

}  // namespace retrosparse::kernels::reference
