#pragma once
// How a decode launch is cut into thread blocks. Plain C++ that the kernel, its launcher and the tests share.
//
// The queries of a KV group, token by token and head by head, are its rows, in tiles of 16. For each (sequence, group,
// row tile), a "pair", the keys are split over units, one thread block each:
//   window units    sinks and window, for all rows
//   far units       the keys between, for the rows of dense heads
//   selected units  the selected keys of one row of a kSelected head
// Units leave partial results, and the last ones of a pair to start merge its rows.
#include <cstdint>

#include "retrosparse_kernels/decode_attention.h"

#ifndef RETROSPARSE_HOST_DEVICE
#ifdef __CUDACC__
#define RETROSPARSE_HOST_DEVICE __host__ __device__
#else
#define RETROSPARSE_HOST_DEVICE
#endif
#endif

namespace retrosparse::kernels::sm90 {

inline constexpr int32_t kDecodeRows = 16;  ///< rows of a tile
inline constexpr int32_t kDecodeMaxHeads = 256;
inline constexpr int32_t kDecodeMaxSplits = 128;  ///< of each of the three kinds

/// The units of every pair; those that a pair has no rows for exit at once.
struct DecodePlan {
  int32_t heads_per_group;
  int32_t row_tiles;        ///< of a group
  int32_t window_splits;    ///< 0 when the launch has no window part
  int32_t far_splits;       ///< 0 when no head is dense
  int32_t selected_splits;  ///< per row, 0 when no head is selected
  int32_t selected_rows;    ///< the most rows of kSelected heads in a tile

  RETROSPARSE_HOST_DEVICE int32_t units() const { return window_splits + far_splits + selected_rows * selected_splits; }
  /// Partial results of a pair: 16 rows of each window and far unit, one of each selected unit.
  RETROSPARSE_HOST_DEVICE int32_t partial_rows() const {
    return kDecodeRows * (window_splits + far_splits) + selected_rows * selected_splits;
  }
};

DecodePlan make_decode_plan(const DecodeAttentionParams& params, int32_t multiprocessors);

/// A run of indices [begin, end).
struct IndexRange {
  int32_t begin, end;
};

/// Split `index` of [0, count) into `splits` runs of a multiple of 16 (but for the end).
RETROSPARSE_HOST_DEVICE inline IndexRange split_range(int32_t count, int32_t splits, int32_t index) {
  const int32_t size = ((count + splits - 1) / splits + 15) / 16 * 16;
  const int32_t begin = index * size < count ? index * size : count;
  return {begin, begin + size < count ? begin + size : count};
}

/// Sinks and window of a sequence's query tokens as one run of indices: sinks first, then from `first_window_key` on.
struct ResidentKeys {
  int32_t sinks;             ///< keys in front of the window that are seen as sinks
  int32_t first_window_key;  ///< of the first query token, which sees furthest back
  int32_t count;             ///< sinks and window

  RETROSPARSE_HOST_DEVICE ResidentKeys(int32_t key_count, int32_t query_tokens, int32_t window, int32_t sink_tokens) {
    const int32_t first = key_count - query_tokens - window + 1;
    first_window_key = first > 0 ? first : 0;
    sinks = sink_tokens < first_window_key ? sink_tokens : first_window_key;
    count = sinks + key_count - first_window_key;
  }
  RETROSPARSE_HOST_DEVICE int32_t key(int32_t index) const {
    return index < sinks ? index : first_window_key + index - sinks;
  }
  /// Keys between sinks and window: [sinks, first_window_key).
  RETROSPARSE_HOST_DEVICE int32_t far_count() const { return first_window_key - sinks; }
};

}  // namespace retrosparse::kernels::sm90
