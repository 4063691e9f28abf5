#pragma once
// How decode selection is cut into thread blocks. Plain C++ that the kernels, their launchers and the tests share.
//
// A row is a query token's kSelected head. The rows of an index group, token by token and head by head, are worked on
// in chunks that share the index keys they read. The far keys of a (sequence, group, chunk) are split over blocks, and
// those over the warps: each such run of keys leaves a row's candidates in a segment of its own, in order.
#include <cstddef>
#include <cstdint>

#include "retrosparse_kernels/decode_selection.h"
#include "sm90/launch_splits.h"

#ifndef RETROSPARSE_HOST_DEVICE
#ifdef __CUDACC__
#define RETROSPARSE_HOST_DEVICE __host__ __device__
#else
#define RETROSPARSE_HOST_DEVICE
#endif
#endif

namespace retrosparse::kernels::sm90 {

inline constexpr int32_t kSelectionMaxHeads = 256;
inline constexpr int32_t kScoreTile = 128;  ///< keys that a warp scores at a time
inline constexpr int32_t kScoreWarps = 4;   ///< of a block
inline constexpr int32_t kMaxSegments = kMaxSplits * kScoreWarps;
inline constexpr int32_t kCandidates = 16384;  ///< of a row; where there are more, all its keys are scored again
inline constexpr int32_t kListAll = 4096;      ///< up to so many far keys all are candidates
inline constexpr int32_t kSamples = 1024;      ///< far keys that a row's threshold is found from, up to
inline constexpr int32_t kMostRounds = 16;     ///< times that

struct SelectionPlan {
  int64_t rows;          ///< batch * query_tokens * R
  int32_t groups;        ///< index groups
  int32_t rows_at_once;  ///< of a chunk: 2 or 8
  int32_t row_chunks;    ///< of a group's rows
  int32_t splits;        ///< blocks to a (sequence, group, chunk)
  int32_t capacity;      ///< keys of a segment

  RETROSPARSE_HOST_DEVICE int32_t segments() const { return splits * kScoreWarps; }
};

/// Everything but `splits` and `capacity`.
SelectionPlan count_selection_rows(const DecodeSelectionParams& params);
/// The blocks of a plan that is not split yet.
SplitKind selection_split_kind(const DecodeSelectionParams& params, const SelectionPlan& plan);
void set_splits(const DecodeSelectionParams& params, int32_t splits, SelectionPlan& plan);
/// For a launch of selection alone.
SelectionPlan make_selection_plan(const DecodeSelectionParams& params, int32_t multiprocessors);
/// Blocks that run at a time beside the ones that find the thresholds.
int64_t score_slots(const SelectionPlan& plan, int32_t multiprocessors);

/// The first selected head of each index group, and R at the end. Returns the number of groups.
int32_t find_index_groups(const DecodeSelectionParams& params, int16_t (&first_of_group)[kSelectionMaxHeads + 1]);

/// How many times kSamples it takes to find the threshold of far_count keys.
RETROSPARSE_HOST_DEVICE inline int32_t sample_rounds(int32_t far_count) {
  constexpr int32_t kOneRound = 1 << 19;
  const int32_t rounds = (far_count - 1) / kOneRound + 1;
  return rounds < kMostRounds ? rounds : kMostRounds;
}

/// Sample `index` of `samples` of far_count far keys: one from each of as many equal stretches, at a place that looks
/// random, so that no period in the keys can be met.
RETROSPARSE_HOST_DEVICE inline int32_t sample_key(int32_t index, int32_t samples, int32_t far_count) {
  const uint64_t stretch = (static_cast<uint64_t>(far_count) << 16) / static_cast<uint32_t>(samples);
  const uint64_t place = (static_cast<uint32_t>(index) * 2654435761u) >> 16;
  return static_cast<int32_t>((static_cast<uint64_t>(index) * stretch + (place * stretch >> 16)) >> 16);
}

}  // namespace retrosparse::kernels::sm90
