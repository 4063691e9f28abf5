#pragma once
// What the producer warp and the consumer warpgroups of the tile selection kernel share.
#include "retrosparse_kernels/tile_selection.h"
#include "sm90/ptx.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kSelectorWarpgroups = 3;                                // of 128 queries, a query tile, each
inline constexpr int kRunQueries = kSelectorWarpgroups * kPrefillQueryTile;  // of an item
inline constexpr int kSelectorThreads = 128 * (1 + kSelectorWarpgroups);
inline constexpr int kScoreKeys = 256;  // keys of a stage: four key tiles
inline constexpr int kScoreStages = 8;
inline constexpr int kMaxTileWords = 2048;  // of 32 key tiles: 4M keys
inline constexpr int kTileMaxHeads = 256;
inline constexpr int kTileMaxSequences = 64;

struct TileSelectionKernelParams {
  CUtensorMap keys;          ///< rows: all keys
  CUtensorMap sampled_keys;  ///< rows: every kTileSampleStride-th
  const uint16_t* queries;
  const float* gates;
  const float* lse_local;
  uint32_t* selected_tiles;
  float* lse_far;
  int32_t* next_item;
  int64_t gates_head_stride, lse_head_stride, selected_tiles_head_stride, selected_tiles_query_stride;
  int32_t num_selected_heads;
  int32_t sink_tokens, window;
  int32_t num_items;
  int16_t heads[kTileMaxHeads];   ///< of the model
  int16_t groups[kTileMaxHeads];  ///< index group of each selected head
  float log_tile_shares[kTileMaxHeads];
  // Items, longest sequence first: of each, the runs of queries from the last to the first, head by head.
  int32_t first_item[kTileMaxSequences + 1];
  PrefillSequence sequences[kTileMaxSequences];
  int32_t first_query_tile[kTileMaxSequences];
};

/// A run of queries of one head, and the stages that its far keys take.
struct alignas(16) TileItem {
  int32_t r;  ///< selected head; kStop ends the kernel
  int32_t sequence;
  int32_t first_query;    ///< in the sequence
  int32_t query_count;    ///< 1 to kRunQueries
  int32_t sample_stride;  ///< 1 or kTileSampleStride
  int32_t sample_begin;   ///< row of the first sampled key, in rows of sample_stride tokens
  int32_t sample_steps;   ///< stages of the log-sum-exp
  int32_t first_step;     ///< stages of the maxima: kScoreKeys keys each, from first_step * kScoreKeys on
  int32_t end_step;
  static constexpr int32_t kStop = -1;
};

struct alignas(1024) TileSharedMemory {
  uint16_t keys[kScoreStages][kScoreKeys][kIndexDim];
  uint32_t words[kSelectorWarpgroups][kMaxTileWords];  ///< of the warpgroups' query tiles
  TileItem items[2];
  Barrier key_full[kScoreStages], key_empty[kScoreStages];
  Barrier item_full[2], item_empty[2];

  __device__ void init_barriers() {
    for (int i = 0; i < kScoreStages; ++i) {
      key_full[i].init(1);
      key_empty[i].init(4 * kSelectorWarpgroups);
    }
    for (int i = 0; i < 2; ++i) {
      item_full[i].init(1);
      item_empty[i].init(128 * kSelectorWarpgroups);
    }
    fence_barrier_init();
  }
};

}  // namespace retrosparse::kernels::sm90
