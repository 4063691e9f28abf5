#include "sm90/prefill_plan.h"

#include <algorithm>
#include <array>
#include <vector>

namespace retrosparse::kernels::sm90 {
namespace {

struct HeadGroup {
  HeadMode mode;
  int16_t first_head;
  int16_t num_heads;
};

/// The mode of head h in this part: kSelected heads are local where their tiles do not count yet.
HeadMode effective_mode(const PrefillAttentionParams& params, int32_t h) {
  const bool waits = params.part == PrefillPart::kResident && params.head_modes[h] == HeadMode::kSelected;
  return waits ? HeadMode::kLocal : params.head_modes[h];
}

/// Heads of the same mode and KV group side by side in schedule.head_order.
std::vector<HeadGroup> group_heads(const PrefillAttentionParams& params, PrefillSchedule& schedule) {
  std::vector<HeadGroup> groups;
  const int32_t heads_per_group = params.num_heads / params.num_key_value_heads;
  int16_t ordered = 0;
  int16_t tiles_rows = 0;
  for (int32_t h = 0; h < params.num_heads; ++h) {
    const HeadMode mode = effective_mode(params, h);
    schedule.tiles_row[h] = mode == HeadMode::kSelected ? tiles_rows++
                            : mode == HeadMode::kDense  ? PrefillSchedule::kDenseRow
                                                        : PrefillSchedule::kLocalRow;
  }
  for (const HeadMode mode : {HeadMode::kDense, HeadMode::kSelected, HeadMode::kLocal}) {
    if (params.part == PrefillPart::kSelected && mode != HeadMode::kSelected) {
      continue;
    }
    for (int32_t group = 0; group < params.num_key_value_heads; ++group) {
      const int16_t first = ordered;
      for (int32_t h = group * heads_per_group; h < (group + 1) * heads_per_group; ++h) {
        if (effective_mode(params, h) == mode) {
          schedule.head_order[ordered++] = static_cast<int16_t>(h);
        }
      }
      if (ordered > first) {
        groups.push_back({mode, first, static_cast<int16_t>(ordered - first)});
      }
    }
  }
  return groups;
}

int32_t query_tiles(const PrefillSequence& sequence) {
  return (sequence.query_count + kPrefillQueryTile - 1) / kPrefillQueryTile;
}

/// Keys that the last query tile reads; for kSelected a guess, since the lists are on the device.
int64_t heaviest_item(const PrefillAttentionParams& params, HeadMode mode, const PrefillSequence& sequence) {
  const int64_t keys = sequence.key_count;
  const int64_t local = static_cast<int64_t>(params.window) + params.sink_tokens + kPrefillQueryTile;
  switch (mode) {
    case HeadMode::kDense:
      return keys;
    case HeadMode::kSelected:
      return std::min(keys, local + keys / 8);
    case HeadMode::kLocal:
      break;
  }
  return std::min(keys, local);
}

}  // namespace

int32_t make_prefill_schedule(const PrefillAttentionParams& params, int32_t first_sequence, int32_t first_query_tile,
                              PrefillSchedule& schedule) {
  struct Candidate {
    int64_t cost;
    PrefillStrip strip;
    int32_t items;
  };
  const std::vector<HeadGroup> groups = group_heads(params, schedule);
  const auto max_sequences =
      std::min<int64_t>(PrefillSchedule::kMaxSequences,
                        PrefillSchedule::kMaxStrips / std::max<int64_t>(1, static_cast<int64_t>(groups.size())));
  const auto count = static_cast<int32_t>(std::min<int64_t>(params.num_sequences - first_sequence, max_sequences));

  std::vector<Candidate> candidates;
  for (int32_t s = 0; s < count; ++s) {
    const PrefillSequence& sequence = params.sequences[first_sequence + s];
    schedule.sequences[s] = sequence;
    schedule.first_query_tile[s] = first_query_tile;
    first_query_tile += query_tiles(sequence);
    for (const HeadGroup& group : groups) {
      if (sequence.query_count > 0) {
        candidates.push_back({heaviest_item(params, group.mode, sequence),
                              {0, static_cast<int16_t>(s), group.first_head, group.num_heads},
                              query_tiles(sequence) * group.num_heads});
      }
    }
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.cost > b.cost; });

  schedule.num_items = 0;
  schedule.num_strips = 0;
  for (const Candidate& candidate : candidates) {
    PrefillStrip& strip = schedule.strips[schedule.num_strips++];
    strip = candidate.strip;
    strip.first_item = schedule.num_items;
    schedule.num_items += candidate.items;
  }
  schedule.strips[schedule.num_strips] = {schedule.num_items, 0, 0, 0};
  return count;
}

}  // namespace retrosparse::kernels::sm90
