#pragma once
// What the three kernels of decode selection share: parameters, and what they leave for each other.
#include "retrosparse_kernels/decode_selection.h"
#include "sm90/numeric.cuh"
#include "sm90/ptx.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kSelectionMaxHeads = 256;
inline constexpr int kScoreTile = 64;  ///< keys that a warp scores at once
/// Keys that share a maximum: fewer where rows are short and their best keys lie in many tiles.
inline constexpr int kFewSharing = kScoreTile / 2, kManySharing = kScoreTile;

/// Reference and sum of a set of weights 2^(exponent - reference).
struct ScoreSum {
  float reference;
  float sum;
};

/// A score, as order_key, that the rule may take, and its position.
struct Candidate {
  uint32_t key;
  int32_t position;
};
inline constexpr uint32_t kCandidates = 8192;  ///< of a row; where there are more, the scores are read again

struct CandidateSum {
  uint32_t count;      ///< more than kCandidates: they are not listed
  uint32_t threshold;  ///< no key below is a candidate
  uint32_t highest;    ///< no key is above
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
  uint32_t* scored;       ///< blocks of the first kernel that have ended; the last kernel leaves zero
  uint32_t score_blocks;  ///< of the first kernel
  // Rows are [batch, query_tokens, R].
  float* scores;          ///< [rows, tiles * kScoreTile]; -inf where a key is not far; unwritten past the last far key
  uint32_t* maxima;       ///< [rows, tiles * kScoreTile / keys that share one], as order_key
  ScoreSum* sums;         ///< [rows, blocks]
  Candidate* candidates;  ///< [rows, kCandidates], in rising order of positions
  CandidateSum* candidate_sums;  ///< [rows]
  bool many_share;               ///< kManySharing keys share a maximum, not kFewSharing
  bool scores_overlap;           ///< the launch before is none that the scores depend on
  bool scores_are_counted;       ///< and the candidates do not wait for it: they look at `scored`
  int32_t tiles, blocks;
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
};

/// What belongs to a row [batch, query_tokens, R].
struct SelectionRow {
  int32_t index, sequence, token, head;
  float p;
  uint32_t least, most;
  int32_t far_end = 0;

  /// From what the host knows.
  __device__ SelectionRow(const SelectionKernelParams& params, int32_t row)
      : index(row),
        sequence(row / (params.query_tokens * params.num_selected_heads)),
        token(row / params.num_selected_heads % params.query_tokens) {
    const int32_t rank = row % params.num_selected_heads;
    head = params.heads[rank];
    p = params.p[rank];
    least = params.min_tokens[rank];
    most = params.max_tokens[rank];
  }
  __device__ void find_end(const SelectionKernelParams& params) { far_end = params.far_end(sequence, token); }
  __device__ uint32_t far_count(const SelectionKernelParams& params) const {
    return static_cast<uint32_t>(max(0, far_end - params.sink_tokens));
  }
};

inline constexpr uint32_t kNoScore = 0x007fffffu;  ///< order_key(-inf)
/// Unsigned keys in the order of the floats (no NaN; both zeros are equal).
__device__ inline uint32_t order_key(float value) {
  const uint32_t bits = __float_as_uint(value + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline float from_order_key(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

}  // namespace retrosparse::kernels::sm90
