#pragma once
// What the producer warp and the consumer warpgroups of the prefill kernel share.
#include <cuda_bf16.h>

#include "sm90/prefill_plan.h"
#include "sm90/ptx.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kWarpgroup = 128;                              // threads
inline constexpr int kConsumerWarpgroups = kPrefillQueryTile / 64;  // each holds 64 queries
inline constexpr int kConsumerThreads = kConsumerWarpgroups * kWarpgroup;
inline constexpr int kPrefillThreads = kWarpgroup + kConsumerThreads;
inline constexpr int kStepKeys = 2 * kPrefillKeyTile;

/// Everything the kernel gets; passed by value.
struct PrefillKernelParams {
  CUtensorMap q;               ///< boxes of a whole query tile
  CUtensorMap k_step, v_step;  ///< boxes of kStepKeys keys, whole head
  CUtensorMap k_tile, v_tile;  ///< boxes of one key tile, one half of a head
  __nv_bfloat16* o;
  float* lse;
  const uint32_t* selected_tiles;
  int32_t* next_item;  ///< counter that the blocks draw items from
  int64_t o_token_stride, o_head_stride, lse_head_stride;
  int64_t selected_tiles_head_stride, selected_tiles_query_stride;
  int32_t total_keys;
  int32_t heads_per_group;
  int32_t sink_tokens, window;
  float softmax_scale;
  PrefillPart part;
  PrefillSchedule schedule;
};

/// What the consumers need to know of an item.
struct alignas(16) ItemInfo {
  int32_t query_row;       ///< of the item's first query, in o and lse; kStop ends the kernel
  int32_t query_count;     ///< 1 to kPrefillQueryTile
  int32_t first_position;  ///< of the first query
  int32_t head;
  int32_t window;
  static constexpr int32_t kStop = -1;
};

/// Tiles lie as 64-column halves of the head, each a run of 128-byte rows in the 128-byte swizzle. Every ring has a
/// barrier per stage for "full" (data and description are there) and for "empty" (all readers are done).
template <class Config>
struct alignas(1024) PrefillSharedMemory {
  static constexpr int kHalves = Config::kHeadDim / 64;
  using QueryTile = __nv_bfloat16[kHalves][kPrefillQueryTile][64];
  using KeyTiles = __nv_bfloat16[kHalves][kStepKeys][64];

  QueryTile q[Config::kQueryStages];  ///< later holds the item's output on its way to global memory
  KeyTiles k[Config::kKeyStages];
  KeyTiles v[Config::kKeyStages];
  ItemInfo items[Config::kQueryStages];
  KeyStep steps[Config::kKeyStages];  ///< of the k stages
  Barrier q_full[Config::kQueryStages], q_empty[Config::kQueryStages];
  Barrier k_full[Config::kKeyStages], k_empty[Config::kKeyStages];
  Barrier v_full[Config::kKeyStages], v_empty[Config::kKeyStages];
  Barrier v_landed;  ///< for values that the producer has to touch up before they count as full

  __device__ void init_barriers() {
    constexpr int kConsumerWarps = kConsumerThreads / 32;
    for (int i = 0; i < Config::kQueryStages; ++i) {
      q_full[i].init(1);
      q_empty[i].init(kConsumerThreads);
    }
    for (int i = 0; i < Config::kKeyStages; ++i) {
      k_full[i].init(1);
      v_full[i].init(1);
      k_empty[i].init(kConsumerWarps);
      v_empty[i].init(kConsumerWarps);
    }
    v_landed.init(1);
    fence_barrier_init();
  }
};

}  // namespace retrosparse::kernels::sm90
