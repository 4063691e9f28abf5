#include "sm90/prefill_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <vector>

namespace retrosparse::kernels::sm90 {
namespace {

struct SelectedSet {
  std::set<int32_t> tiles;

  int32_t highest_below(int32_t tile) const {
    const auto above = tiles.lower_bound(tile);
    return above == tiles.begin() ? -1 : *std::prev(above);
  }
  bool contains(int32_t tile) const { return tiles.count(tile) > 0; }
};

bool is_visible(const KeyRange& range, const SelectedSet& selected, int32_t position, int32_t key) {
  if (range.far_only) {
    return position - key >= range.window && key >= range.sink_tokens && selected.contains(key / kPrefillKeyTile);
  }
  return key <= position &&
         (position - key < range.window || key < range.sink_tokens || selected.contains(key / kPrefillKeyTile));
}

/// What the kernel lets a query see of a step: everything of an unmasked one, else the bounds that its flags name.
bool step_shows(const KeyRange& range, const KeyStep& step, int tile, int32_t position, int32_t key) {
  if (!(step.flags & KeyStep::kMasked)) {
    return true;
  }
  if (range.far_only) {
    return position - key >= range.window && key >= range.sink_tokens;
  }
  const int32_t window = step.flags & (KeyStep::kSelected << tile) ? KeyRange::kUnlimited : range.window;
  return key <= position && (position - key < window || key < range.sink_tokens);
}

/// Walks the item and compares, query by query and key by key, with the definition.
void check_walk(const KeyRange& range, SelectedSet& selected) {
  SCOPED_TRACE(::testing::Message() << "queries " << range.first_position << " to " << range.last_position
                                    << ", window " << range.window << ", sinks " << range.sink_tokens << ", selected "
                                    << selected.tiles.size());
  std::vector<std::set<int32_t>> shown(static_cast<size_t>(range.last_position - range.first_position + 1));
  KeyWalk<SelectedSet> walk(range, selected);
  std::set<int32_t> tiles;
  KeyStep step{};
  if (!walk.has_steps()) {
    EXPECT_TRUE(range.far_only);
    step.flags = KeyStep::kLast;
  }
  while (!(step.flags & KeyStep::kLast)) {
    step = walk.next();
    if (step.flags & KeyStep::kContiguous) {
      ASSERT_EQ(step.first_key[1], step.first_key[0] + kPrefillKeyTile);
    }
    for (int tile = 0; tile < 2; ++tile) {
      if (step.first_key[tile] == KeyStep::kNoKeys) {
        ASSERT_EQ(tile, 1);
        ASSERT_TRUE(step.flags & KeyStep::kLast);
        ASSERT_TRUE(step.flags & KeyStep::kMasked);
        continue;
      }
      ASSERT_EQ(step.first_key[tile] % kPrefillKeyTile, 0);
      ASSERT_TRUE(tiles.insert(step.first_key[tile]).second) << "tile visited twice";
      for (int32_t position = range.first_position; position <= range.last_position; ++position) {
        for (int32_t key = step.first_key[tile]; key < step.first_key[tile] + kPrefillKeyTile; ++key) {
          if (step_shows(range, step, tile, position, key)) {
            shown[static_cast<size_t>(position - range.first_position)].insert(key);
          }
        }
      }
    }
  }

  bool useless_tile = false;
  for (const int32_t first_key : tiles) {
    bool useful = false;
    for (int32_t position = range.first_position; position <= range.last_position; ++position) {
      for (int32_t key = first_key; key < first_key + kPrefillKeyTile; ++key) {
        useful = useful || is_visible(range, selected, position, key);
      }
    }
    useless_tile = useless_tile || !useful;
  }
  EXPECT_FALSE(useless_tile) << "a tile that no query sees was visited";
  for (int32_t position = range.first_position; position <= range.last_position; ++position) {
    std::set<int32_t> expected;
    for (int32_t key = 0; key <= position; ++key) {
      if (is_visible(range, selected, position, key)) {
        expected.insert(key);
      }
    }
    ASSERT_EQ(shown[static_cast<size_t>(position - range.first_position)], expected) << "query " << position;
  }
}

TEST(PrefillKeyWalk, ShowsEveryQueryExactlyItsKeys) {
  std::mt19937 random(7);
  const auto uniform = [&](int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(random);
  };
  for (int trial = 0; trial < 60; ++trial) {
    KeyRange range{};
    range.first_position = uniform(0, 3) == 0 ? uniform(0, 200) : uniform(0, 1500);
    range.last_position = range.first_position + (uniform(0, 1) == 0 ? 127 : uniform(0, 127));
    const int32_t windows[] = {1, 2, 63, 64, 65, 128, 200, 500, 1000, KeyRange::kUnlimited};
    range.window = windows[uniform(0, 9)];
    const int32_t sinks[] = {0, 1, 4, 63, 64, 65, 200, 3000};
    range.sink_tokens = sinks[uniform(0, 7)];
    range.far_only = uniform(0, 3) == 0;
    SelectedSet selected;
    for (int32_t count = uniform(0, 2) == 0 ? 0 : uniform(0, 20); count > 0; --count) {
      selected.tiles.insert(uniform(0, range.last_position / kPrefillKeyTile));
    }
    check_walk(range, selected);
    if (HasFatalFailure()) {
      return;
    }
  }
}

TEST(PrefillKeyWalk, MasksOnlyTheEdges) {
  SelectedSet none;
  const KeyRange dense{128 * 50, 128 * 51 - 1, KeyRange::kUnlimited, 4, false};
  KeyWalk<SelectedSet> dense_walk(dense, none);
  int steps = 0;
  int masked = 0;
  KeyStep step{};
  do {
    step = dense_walk.next();
    ++steps;
    masked += (step.flags & KeyStep::kMasked) != 0;
  } while (!(step.flags & KeyStep::kLast));
  EXPECT_EQ(steps, 51);
  EXPECT_EQ(masked, 1);

  const KeyRange local{128 * 50, 128 * 51 - 1, 2048, 4, false};
  KeyWalk<SelectedSet> local_walk(local, none);
  steps = masked = 0;
  do {
    step = local_walk.next();
    ++steps;
    masked += (step.flags & KeyStep::kMasked) != 0;
  } while (!(step.flags & KeyStep::kLast));
  EXPECT_EQ(steps, 16 + 1 + 1);  // window, diagonal, sinks
  EXPECT_EQ(masked, 3);
}

TEST(PrefillSchedule, CoversEveryQueryTileOfEveryHeadOnceHeaviestFirst) {
  std::vector<HeadMode> modes(24, HeadMode::kLocal);
  modes[3] = modes[4] = modes[20] = HeadMode::kDense;
  modes[5] = modes[7] = HeadMode::kSelected;
  std::vector<PrefillSequence> sequences;
  int32_t row = 0;
  int32_t tiles = 0;
  for (const int32_t count : {1, 5000, 0, 128, 129, 70000}) {
    sequences.push_back({row, count, row, count});
    row += count;
    tiles += (count + 127) / 128;
  }
  for (int i = 0; i < 150; ++i) {  // more than fit in one schedule
    sequences.push_back({row, 10, row, 10});
    row += 10;
    ++tiles;
  }
  PrefillAttentionParams params;
  params.num_heads = 24;
  params.num_key_value_heads = 6;
  params.head_modes = modes.data();
  params.window = 1024;
  params.sink_tokens = 4;
  params.sequences = sequences.data();
  params.num_sequences = static_cast<int32_t>(sequences.size());

  std::set<std::tuple<int32_t, int32_t, int32_t>> seen;
  int32_t first_tile = 0;
  for (int32_t s = 0; s < params.num_sequences;) {
    PrefillSchedule schedule;
    const int32_t count = make_prefill_schedule(params, s, first_tile, schedule);
    ASSERT_GT(count, 0);
    int32_t cursor = 0;
    std::map<std::pair<int32_t, int32_t>, int32_t> last_tile;
    for (int32_t i = 0; i < schedule.num_items; ++i) {
      const PrefillItem item = prefill_item(schedule, i, cursor);
      ASSERT_LT(item.sequence, count);
      EXPECT_TRUE(seen.insert({s + item.sequence, item.head, item.query_tile}).second);
      const auto [last, first_visit] = last_tile.try_emplace({item.sequence, item.head}, item.query_tile);
      EXPECT_TRUE(first_visit || item.query_tile == last->second - 1) << "query tiles fall";
      last->second = item.query_tile;
      if (i == 0 && s == 0) {
        EXPECT_EQ(modes[static_cast<size_t>(item.head)], HeadMode::kDense);
        EXPECT_EQ(item.sequence, 5);
      }
    }
    for (int32_t i = 0; i < count; ++i) {
      EXPECT_EQ(schedule.first_query_tile[i], first_tile);
      EXPECT_EQ(schedule.sequences[i].query_begin, sequences[static_cast<size_t>(s + i)].query_begin);
      first_tile += (sequences[static_cast<size_t>(s + i)].query_count + 127) / 128;
    }
    EXPECT_EQ(schedule.tiles_row[5], 0);
    EXPECT_EQ(schedule.tiles_row[7], 1);
    EXPECT_EQ(schedule.tiles_row[3], PrefillSchedule::kDenseRow);
    EXPECT_EQ(schedule.tiles_row[0], PrefillSchedule::kLocalRow);
    s += count;
  }
  EXPECT_EQ(static_cast<int32_t>(seen.size()), tiles * params.num_heads);
}

}  // namespace
}  // namespace retrosparse::kernels::sm90
