#pragma once
// What the kernels of decode selection share: parameters, rows, and what they leave for each other.
#include "sm90/numeric.cuh"
#include "sm90/selection_plan.h"
#include "sm90/weight_sum.cuh"

namespace retrosparse::kernels::sm90 {

/// A score, as order_key, that the rule may take, and its position.
struct Candidate {
  uint32_t key;
  int32_t position;
};

/// What a warp of the first launch leaves of a row: how many candidates, and the weight of all its keys.
struct alignas(16) Segment {
  uint32_t count;
  WeightSum weight;
};

struct SelectionKernelParams {
  const float* queries;
  const float* gates;
  const float* lse_local;
  IndexCache cache;
  const int32_t* key_counts;
  int32_t* selected;
  int32_t* selected_counts;
  float* far_mass;
  // Rows are [batch, query_tokens, R].
  uint32_t* thresholds;   ///< [rows]: as order_key, no key below is a candidate; 0 until it is known
  Segment* segments;      ///< [rows, segments]
  Candidate* candidates;  ///< [rows, segments, capacity], the rows of a segment in rising order of positions
  SelectionPlan plan;
  int32_t query_tokens, num_heads, num_selected_heads, max_selected;
  int32_t sink_tokens, window;
  int16_t heads[kSelectionMaxHeads];               ///< of the model
  int16_t first_of_group[kSelectionMaxHeads + 1];  ///< first selected head of each index group, then R
  float p[kSelectionMaxHeads];
  int16_t min_tokens[kSelectionMaxHeads], max_tokens[kSelectionMaxHeads];

  /// One past the last far key of query token t.
  __device__ int32_t far_end(int32_t sequence, int32_t token) const {
    return key_counts[sequence] - query_tokens + token - window + 1;
  }
  __device__ int32_t score_blocks() const { return plan.splits * plan.row_chunks * plan.groups; }
};

/// What belongs to a row [batch, query_tokens, R].
struct SelectionRow {
  int32_t index, sequence, token, rank, head;
  float p;
  uint32_t least, most;
  int32_t far_end = 0;

  /// From what the host knows.
  __device__ SelectionRow(const SelectionKernelParams& params, int32_t row)
      : index(row),
        sequence(row / (params.query_tokens * params.num_selected_heads)),
        token(row / params.num_selected_heads % params.query_tokens),
        rank(row % params.num_selected_heads) {
    head = params.heads[rank];
    p = params.p[rank];
    least = params.min_tokens[rank];
    most = params.max_tokens[rank];
  }
  __device__ void find_end(const SelectionKernelParams& params) { far_end = params.far_end(sequence, token); }
  __device__ uint32_t far_count(const SelectionKernelParams& params) const {
    return static_cast<uint32_t>(max(0, far_end - params.sink_tokens));
  }
  /// The index group that holds the row's head.
  __device__ int32_t group(const SelectionKernelParams& params) const {
    int32_t group = 0;
    while (params.first_of_group[group + 1] <= rank) {
      ++group;
    }
    return group;
  }
};

/// The index keys of a sequence's group.
class IndexKeys {
 public:
  __device__ IndexKeys(const IndexCache& cache, int32_t sequence, int32_t group)
      : pages_(cache.page_table == nullptr ? nullptr : cache.page_table + sequence * cache.page_table_stride),
        page_stride_(cache.sequence_stride) {
    page_shift_ = pages_ == nullptr ? 0 : 31 - __clz(cache.page_size);
    keys_ = static_cast<const uint16_t*>(cache.keys) + group * cache.group_stride +
            (pages_ == nullptr ? sequence * cache.sequence_stride : 0);
  }

  /// Whether `keys` keys, a power of two, from a multiple of that on always lie side by side.
  __device__ bool lie_together(int32_t keys) const { return pages_ == nullptr || keys <= 1 << page_shift_; }

  /// The two 16-byte halves of key n.
  __device__ const uint4* key(int32_t n) const {
    const int64_t page = pages_ == nullptr ? 0 : __ldg(pages_ + (n >> page_shift_));
    const int32_t token = pages_ == nullptr ? n : n & ((1 << page_shift_) - 1);
    return reinterpret_cast<const uint4*>(keys_ + page * page_stride_ + int64_t{token} * kIndexDim);
  }

 private:
  const uint16_t* keys_;
  const int32_t* pages_;
  const int64_t page_stride_;
  int32_t page_shift_;
};

__device__ inline void unpack_key(const uint4& first, const uint4& second, float (&values)[kIndexDim]) {
  const uint32_t words[8] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    values[2 * i] = __uint_as_float(words[i] << 16);
    values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

/// The reference's score, bit for bit.
__device__ inline float index_score(const float (&query)[kIndexDim], const float (&key)[kIndexDim]) {
  float score = 0;
#pragma unroll
  for (int i = 0; i < kIndexDim; ++i) {
    score = __fmaf_rn(query[i], key[i], score);
  }
  return score;
}

inline constexpr uint32_t kNoScore = 0x007fffffu;   ///< order_key(-inf)
inline constexpr uint32_t kAboveAll = 0xffffffffu;  ///< order_key of no number
/// Unsigned keys in the order of the floats (no NaN; both zeros are equal).
__device__ inline uint32_t order_key(float value) {
  const uint32_t bits = __float_as_uint(value + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline float from_order_key(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

}  // namespace retrosparse::kernels::sm90
