#pragma once
// How the prefill kernel cuts its work: items (one query tile of one head) in an order that the thread blocks draw
// from, and the steps of an item (two key tiles each). Plain C++ that the kernel, its launcher and the tests share.
#include <cstdint>

#include "retrosparse_kernels/prefill_attention.h"

#ifdef __CUDACC__
#define RETROSPARSE_HOST_DEVICE __host__ __device__
#else
#define RETROSPARSE_HOST_DEVICE
#endif

namespace retrosparse::kernels::sm90 {

/// One query tile of one head.
struct PrefillItem {
  int32_t head;
  int32_t sequence;
  int32_t query_tile;  ///< within the sequence
};

/// The items of one sequence and of the heads of one KV group that share a mode (in this launch's part).
struct PrefillStrip {
  int32_t first_item;
  int16_t sequence;
  int16_t first_head;  ///< into PrefillSchedule::head_order
  int16_t num_heads;
};

/// The order of the items: strips by falling cost of their heaviest item; within a strip the query tiles from the last
/// (which sees most keys) to the first, and within a query tile the heads, which read the same keys at the same time
/// and so share them in L2. Long items come first and short ones fill the end (longest processing time first).
struct PrefillSchedule {
  static constexpr int kMaxHeads = 256;
  static constexpr int kMaxStrips = 256;
  static constexpr int kMaxSequences = 64;
  static constexpr int16_t kLocalRow = -1;
  static constexpr int16_t kDenseRow = -2;

  int32_t num_items = 0;
  int32_t num_strips = 0;
  PrefillStrip strips[kMaxStrips + 1];  ///< one more than there are: its first_item is num_items
  int16_t head_order[kMaxHeads];
  int16_t tiles_row[kMaxHeads];  ///< row of a kSelected head in selected_tiles; kLocalRow or kDenseRow for others
  PrefillSequence sequences[kMaxSequences];
  int32_t first_query_tile[kMaxSequences];  ///< of the sequence, in selected_tiles
};

/// Schedules sequences from `first_sequence` on and returns how many of them fitted (at least one).
/// `first_query_tile` is the number of query tiles before that sequence.
int32_t make_prefill_schedule(const PrefillAttentionParams& params, int32_t first_sequence, int32_t first_query_tile,
                              PrefillSchedule& schedule);

/// Item number `index` of the schedule. `strip` is a cursor that only moves forward: start it at 0 and pass rising
/// indices.
RETROSPARSE_HOST_DEVICE inline PrefillItem prefill_item(const PrefillSchedule& schedule, int32_t index,
                                                        int32_t& strip_cursor) {
  while (index >= schedule.strips[strip_cursor + 1].first_item) {
    ++strip_cursor;
  }
  const PrefillStrip& strip = schedule.strips[strip_cursor];
  const int32_t offset = index - strip.first_item;
  const int32_t tiles = (schedule.strips[strip_cursor + 1].first_item - strip.first_item) / strip.num_heads;
  return {schedule.head_order[strip.first_head + offset % strip.num_heads], strip.sequence,
          tiles - 1 - offset / strip.num_heads};
}

/// What decides which keys the queries of an item see.
struct KeyRange {
  int32_t first_position;  ///< of the item's first query in its sequence
  int32_t last_position;
  int32_t window;  ///< kUnlimited for a dense head
  int32_t sink_tokens;
  bool far_only;  ///< only selected tiles count, and of them only keys outside of window and sinks
  static constexpr int32_t kUnlimited = 0x3fffffff;  // differences of positions and windows stay in int32
};

/// Two key tiles that are multiplied in one go: columns 0-63 and 64-127 of the score tile.
struct alignas(16) KeyStep {
  int32_t first_key[2];  ///< kNoKeys where an odd tile was left
  uint32_t flags;

  static constexpr int32_t kNoKeys = 0x40000000;
  static constexpr uint32_t kLast = 1;         ///< of the item
  static constexpr uint32_t kMasked = 2;       ///< some query does not see some key
  static constexpr uint32_t kSelected = 4;     ///< first tile: the window does not bound it; << 1 for the second
  static constexpr uint32_t kContiguous = 16;  ///< the second tile follows the first
};

/// Walks an item's key tiles from the diagonal down, two a step. With far_only there may be none: ask has_steps()
/// first. `SelectedTiles` answers
///   int32_t highest_below(int32_t t): the largest selected tile < t, or -1; asked with falling t
///   bool contains(int32_t t)
template <class SelectedTiles>
class KeyWalk {
 public:
  RETROSPARSE_HOST_DEVICE KeyWalk(const KeyRange& range, SelectedTiles& selected)
      : range_(range), selected_(selected), tile_(range.last_position / kPrefillKeyTile + 1) {
    const int32_t first_key = range.first_position - range.window + 1;
    first_window_tile_ = first_key > 0 ? first_key / kPrefillKeyTile : 0;
    if (range.far_only) {
      const int32_t end = range.last_position - range.window + 1;  // of the far keys
      tile_ = end > 0 ? (end + kPrefillKeyTile - 1) / kPrefillKeyTile : 0;
      first_window_tile_ = tile_;
      // Tiles of sinks only are passed over as well.
      lowest_tile_ = range.sink_tokens / kPrefillKeyTile;
    }
    pending_ = next_tile();
  }

  RETROSPARSE_HOST_DEVICE bool has_steps() const { return pending_ >= 0; }

  RETROSPARSE_HOST_DEVICE KeyStep next() {
    const int32_t upper = pending_;
    const int32_t lower = next_tile();
    pending_ = lower < 0 ? -1 : next_tile();
    KeyStep step;
    step.flags = pending_ < 0 ? KeyStep::kLast : 0;
    if (lower >= 0 && lower == upper - 1) {
      step.first_key[0] = lower * kPrefillKeyTile;
      step.first_key[1] = upper * kPrefillKeyTile;
      step.flags |= mask_flags(lower) | second(mask_flags(upper)) | KeyStep::kContiguous;
    } else {
      step.first_key[0] = upper * kPrefillKeyTile;
      step.flags |= mask_flags(upper);
      if (lower >= 0) {
        step.first_key[1] = lower * kPrefillKeyTile;
        step.flags |= second(mask_flags(lower));
      } else {
        step.first_key[1] = KeyStep::kNoKeys;
        step.flags |= KeyStep::kMasked;
      }
    }
    return step;
  }

 private:
  RETROSPARSE_HOST_DEVICE static uint32_t second(uint32_t flags) {
    return (flags & KeyStep::kMasked) | (flags & KeyStep::kSelected) << 1;
  }

  RETROSPARSE_HOST_DEVICE int32_t next_tile() {
    if (tile_ > first_window_tile_) {
      return --tile_;
    }
    const int32_t sink_tiles = (range_.sink_tokens + kPrefillKeyTile - 1) / kPrefillKeyTile;
    const int32_t sink_tile = (tile_ < sink_tiles ? tile_ : sink_tiles) - 1;
    const int32_t selected_tile = tile_ > lowest_tile_ ? selected_.highest_below(tile_) : -1;
    if (range_.far_only) {
      tile_ = selected_tile >= lowest_tile_ ? selected_tile : -1;
    } else {
      tile_ = sink_tile > selected_tile ? sink_tile : selected_tile;
    }
    return tile_;
  }

  RETROSPARSE_HOST_DEVICE uint32_t mask_flags(int32_t tile) const {
    const int32_t first_key = tile * kPrefillKeyTile;
    const int32_t last_key = first_key + kPrefillKeyTile - 1;
    if (range_.far_only) {
      const bool far_for_all = range_.first_position - last_key >= range_.window && first_key >= range_.sink_tokens;
      return far_for_all ? 0 : KeyStep::kMasked;
    }
    uint32_t flags = last_key <= range_.first_position ? 0 : KeyStep::kMasked;
    const bool seen_by_all = range_.last_position - first_key < range_.window || last_key < range_.sink_tokens;
    if (!seen_by_all) {
      flags |= selected_.contains(tile) ? KeyStep::kSelected : KeyStep::kMasked;
    }
    return flags;
  }

  const KeyRange range_;
  SelectedTiles& selected_;
  int32_t first_window_tile_;
  int32_t lowest_tile_ = 0;
  int32_t tile_;     ///< the tile returned last
  int32_t pending_;  ///< first tile of the next step, -1 when there is none
};

}  // namespace retrosparse::kernels::sm90
