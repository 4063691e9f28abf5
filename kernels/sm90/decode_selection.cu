// Launches of decode selection.
#include <algorithm>

#include "sm90/launch.h"
#include "sm90/selection_candidates.cuh"
#include "sm90/selection_pick.cuh"
#include "sm90/selection_scores.cuh"

namespace retrosparse::kernels::sm90 {
namespace {

// A block that runs may rely on everything before the launch before its own: every launch waits before it allows the
// next one. Scores beside the attention do not wait; then only what they and it have no part in may be relied on.

template <int kRows, bool kReadOnce>
__global__ void __launch_bounds__(kScoreThreads, 2)
    selection_scores_kernel(const __grid_constant__ SelectionKernelParams params, int32_t row_chunks) {
  if (!params.scores_overlap) {
    wait_for_previous_launch();
  }
  allow_next_launch();
  SelectionScores<kRows, kReadOnce>(params).run(blockIdx.y / row_chunks, blockIdx.y % row_chunks * kRows);
  // Who waits for this launch relies on the one before it as well. One block that waits is enough: where many keys are
  // still to be read, or others wait for what was read, the rest make room.
  const bool is_last = blockIdx.x == gridDim.x - 1 && blockIdx.y == gridDim.y - 1 && blockIdx.z == gridDim.z - 1;
  if (params.scores_overlap && (is_last || !(kReadOnce || params.scores_are_counted))) {
    wait_for_previous_launch();
  }
}

template <int kTile>
__global__ void __launch_bounds__(kPickThreads, 2)
    selection_candidates_kernel(const __grid_constant__ SelectionKernelParams params) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  SelectionCandidates<kTile> candidates(params, *reinterpret_cast<CandidatesSharedMemory*>(shared_bytes));
  if (params.scores_are_counted) {
    candidates.wait_for_scores();
  } else {
    wait_for_previous_launch();
  }
  allow_next_launch();
  candidates.run();
  if (params.scores_are_counted) {
    wait_for_previous_launch();  // for the pick, which relies on the attention
  }
}

__global__ void __launch_bounds__(kPickThreads, 2)
    selection_pick_kernel(const __grid_constant__ SelectionKernelParams params) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  SelectionPick pick(params, *reinterpret_cast<PickSharedMemory*>(shared_bytes));
  wait_for_previous_launch();
  allow_next_launch();
  pick.run();
}

constexpr int kMostRowsAtOnce = 8;
/// Up to here fewer keys share a maximum: their best keys lie in a good part of all tiles. In longer rows it is the
/// maxima, which every block reads, that take time.
constexpr int32_t kMostKeysOfFew = 1 << 18;

/// How the scores of all rows are cut into blocks, and what they leave in the workspace.
struct SelectionPlan {
  int32_t groups;        ///< index groups
  int32_t rows_at_once;  ///< 1, 2, 4 or 8
  int32_t row_chunks;    ///< of a group's rows
  int32_t blocks;        ///< along the keys
  int32_t cluster;       ///< blocks that share a row in the second kernel
  int32_t tiles;
  bool are_short;   ///< the rows: scored while the attention still runs beside
  bool reads_once;  ///< what is read would drive the scores out of L2, which has room for them
  int64_t rows;

  size_t score_bytes() const { return static_cast<size_t>(rows) * tiles * kScoreTile * sizeof(float); }
  size_t maxima_bytes() const {
    return (static_cast<size_t>(rows) * tiles * (kScoreTile / kFewSharing) * sizeof(uint32_t) + 15) / 16 * 16;
  }
  size_t sum_bytes() const { return (static_cast<size_t>(rows) * blocks * sizeof(ScoreSum) + 15) / 16 * 16; }
  size_t candidate_bytes() const { return static_cast<size_t>(rows) * kCandidates * sizeof(Candidate); }
  size_t bytes() const {
    return kSelectionCounterBytes + score_bytes() + maxima_bytes() + sum_bytes() + candidate_bytes() +
           static_cast<size_t>(rows) * sizeof(CandidateSum);
  }
};

bool has_valid_shape(const DecodeSelectionParams& params) {
  const bool valid = params.batch >= 0 && params.batch <= 65535 && params.query_tokens >= 1 &&
                     params.query_tokens <= 8 && params.num_heads > 0 && params.num_key_value_heads > 0 &&
                     params.num_heads % params.num_key_value_heads == 0 && params.num_selected_heads >= 0 &&
                     params.num_selected_heads <= std::min(params.num_heads, kSelectionMaxHeads) &&
                     params.max_keys >= params.query_tokens && params.window >= 1 && params.sink_tokens >= 0 &&
                     (params.num_selected_heads == 0 || (params.selected_heads != nullptr && params.rules != nullptr));
  if (!valid) {
    return false;
  }
  int32_t previous = -1;
  for (int32_t r = 0; r < params.num_selected_heads; ++r) {
    const SelectionRule& rule = params.rules[r];
    const int32_t head = params.selected_heads[r];
    if (head <= previous || head >= params.num_heads || rule.min_tokens < 0 || rule.max_tokens < rule.min_tokens ||
        rule.max_tokens > std::min(params.max_selected, kMaxSelectedTokens) || !(rule.p >= 0 && rule.p <= 1)) {
      return false;
    }
    previous = head;
  }
  return true;
}

bool has_nothing_to_do(const DecodeSelectionParams& params) {
  return has_valid_shape(params) && (params.batch == 0 || params.num_selected_heads == 0);
}

/// The first selected head of each index group, and R at the end.
int32_t find_groups(const DecodeSelectionParams& params, int16_t (&first_of_group)[kSelectionMaxHeads + 1]) {
  const int32_t heads_per_group = params.num_heads / params.num_key_value_heads;
  int32_t groups = 0;
  for (int32_t r = 0; r < params.num_selected_heads; ++r) {
    if (r == 0 || params.selected_heads[r] / heads_per_group != params.selected_heads[r - 1] / heads_per_group) {
      first_of_group[groups++] = static_cast<int16_t>(r);
    }
  }
  first_of_group[groups] = static_cast<int16_t>(params.num_selected_heads);
  return groups;
}

cudaError_t make_plan(const DecodeSelectionParams& params, SelectionPlan& plan) {
  int device = 0;
  int multiprocessors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  if (error != cudaSuccess) {
    return error;
  }
  int16_t first_of_group[kSelectionMaxHeads + 1];
  plan.groups = find_groups(params, first_of_group);
  int32_t most_heads = 1;
  for (int32_t g = 0; g < plan.groups; ++g) {
    most_heads = std::max(most_heads, first_of_group[g + 1] - first_of_group[g]);
  }
  const int32_t group_rows = most_heads * params.query_tokens;
  plan.rows_at_once = 1;
  while (plan.rows_at_once < std::min(group_rows, kMostRowsAtOnce)) {
    plan.rows_at_once *= 2;
  }
  plan.row_chunks = (group_rows + plan.rows_at_once - 1) / plan.rows_at_once;
  plan.tiles = (params.max_keys + 4 * kScoreTile - 1) / (4 * kScoreTile) * 4;  // maxima are read four at a time
  plan.rows = int64_t{params.batch} * params.query_tokens * params.num_selected_heads;
  // An H200 has 50 MB of L2.
  const int64_t index_bytes = int64_t{params.batch} * plan.groups * params.max_keys * kIndexDim * 2;
  plan.reads_once = index_bytes > int64_t{50} << 20 && plan.score_bytes() <= size_t{25} << 20;
  // Two blocks per multiprocessor in all, but none with less than a step for each warp. Short rows take the room of
  // one: beside a block of the attention there is no more.
  const int64_t grid = std::max<int64_t>(1, int64_t{plan.groups} * plan.row_chunks * params.batch);
  constexpr int64_t kFewTiles = 16;  // to a warp
  plan.are_short = params.scores_overlap_attention && grid * plan.tiles <= kFewTiles * kScoreWarps * multiprocessors;
  const int64_t slots = (plan.are_short ? 1 : 2) * int64_t{multiprocessors};
  const int64_t most = (plan.tiles + 2 * kScoreWarps - 1) / (2 * kScoreWarps);
  plan.blocks = static_cast<int32_t>(std::clamp<int64_t>(slots / grid, 1, std::min<int64_t>(most, kPickThreads)));
  plan.cluster = 1;
  while (plan.cluster < kMaxCandidateCluster && 2 * plan.cluster * plan.rows <= 2 * multiprocessors) {
    plan.cluster *= 2;
  }
  return cudaSuccess;
}

cudaError_t prepare(const DecodeSelectionParams& params, SelectionPlan& plan, SelectionKernelParams& kernel) {
  const IndexCache& cache = params.cache;
  const auto is_aligned = [](const void* pointer) {
    return pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  };
  if (!has_valid_shape(params) || !is_aligned(cache.keys) || !is_aligned(params.workspace) ||
      cache.sequence_stride % 8 != 0 || cache.group_stride % 8 != 0 || params.key_counts == nullptr ||
      params.queries == nullptr ||
      (cache.page_table != nullptr && (cache.page_size <= 0 || (cache.page_size & (cache.page_size - 1)) != 0))) {
    return cudaErrorInvalidValue;
  }
  if (const cudaError_t error = make_plan(params, plan); error != cudaSuccess) {
    return error;
  }
  kernel.queries = params.queries;
  kernel.gates = params.gates;
  kernel.lse_local = params.lse_local;
  kernel.cache = cache;
  kernel.key_counts = params.key_counts;
  kernel.selected = params.selected;
  kernel.selected_counts = params.selected_counts;
  kernel.far_mass = params.far_mass;
  auto* workspace = static_cast<unsigned char*>(params.workspace);
  kernel.scored = reinterpret_cast<uint32_t*>(workspace);
  kernel.score_blocks = static_cast<uint32_t>(plan.blocks * plan.groups * plan.row_chunks) * params.batch;
  workspace += kSelectionCounterBytes;
  kernel.scores = reinterpret_cast<float*>(workspace);
  workspace += plan.score_bytes();
  kernel.maxima = reinterpret_cast<uint32_t*>(workspace);
  workspace += plan.maxima_bytes();
  kernel.sums = reinterpret_cast<ScoreSum*>(workspace);
  workspace += plan.sum_bytes();
  kernel.candidates = reinterpret_cast<Candidate*>(workspace);
  workspace += plan.candidate_bytes();
  kernel.candidate_sums = reinterpret_cast<CandidateSum*>(workspace);
  kernel.many_share = params.max_keys > kMostKeysOfFew;
  kernel.scores_overlap = params.scores_overlap_attention;
  kernel.scores_are_counted = plan.are_short;
  kernel.tiles = plan.tiles;
  kernel.blocks = plan.blocks;
  kernel.query_tokens = params.query_tokens;
  kernel.num_heads = params.num_heads;
  kernel.num_selected_heads = params.num_selected_heads;
  kernel.max_selected = params.max_selected;
  kernel.sink_tokens = params.sink_tokens;
  kernel.window = params.window;
  find_groups(params, kernel.first_of_group);
  for (int32_t r = 0; r < params.num_selected_heads; ++r) {
    kernel.heads[r] = static_cast<int16_t>(params.selected_heads[r]);
    kernel.p[r] = params.rules[r].p;
    kernel.min_tokens[r] = static_cast<int16_t>(params.rules[r].min_tokens);
    kernel.max_tokens[r] = static_cast<int16_t>(params.rules[r].max_tokens);
  }
  return cudaSuccess;
}

template <int kRows>
cudaError_t launch_scores(const SelectionPlan& plan, const SelectionKernelParams& kernel, int32_t batch,
                          cudaStream_t stream) {
  const dim3 grid(plan.blocks, plan.groups * plan.row_chunks, batch);
  const auto run = plan.reads_once ? selection_scores_kernel<kRows, true> : selection_scores_kernel<kRows, false>;
  return launch_overlapping(run, grid, kScoreThreads, 0, stream, kernel, plan.row_chunks);
}
cudaError_t launch_scores(const SelectionPlan& plan, const SelectionKernelParams& kernel, int32_t batch,
                          cudaStream_t stream) {
  switch (plan.rows_at_once) {
    case 1:
      return launch_scores<1>(plan, kernel, batch, stream);
    case 2:
      return launch_scores<2>(plan, kernel, batch, stream);
    case 4:
      return launch_scores<4>(plan, kernel, batch, stream);
    default:
      return launch_scores<kMostRowsAtOnce>(plan, kernel, batch, stream);
  }
}

/// A kernel of kPickThreads threads with `Shared` in dynamic shared memory, `cluster` blocks to a row.
template <class Shared>
cudaError_t launch_rows(void (*kernel)(SelectionKernelParams), const SelectionPlan& plan, int32_t cluster,
                        const SelectionKernelParams& params, cudaStream_t stream) {
  constexpr int kSharedBytes = sizeof(Shared);
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  return error != cudaSuccess ? error
                              : launch_overlapping_clusters(kernel, static_cast<unsigned>(cluster),
                                                            dim3(static_cast<unsigned>(plan.rows * cluster)),
                                                            kPickThreads, kSharedBytes, stream, params);
}

}  // namespace

size_t decode_selection_workspace(const DecodeSelectionParams& params) {
  SelectionPlan plan;
  if (!has_valid_shape(params) || make_plan(params, plan) != cudaSuccess) {
    return 0;
  }
  return plan.bytes();
}

cudaError_t decode_selection(const DecodeSelectionParams& params, cudaStream_t stream) {
  if (has_nothing_to_do(params)) {
    return cudaSuccess;
  }
  if (params.gates == nullptr || params.lse_local == nullptr || params.selected == nullptr ||
      params.selected_counts == nullptr) {
    return cudaErrorInvalidValue;
  }
  SelectionPlan plan;
  SelectionKernelParams kernel;
  cudaError_t error = prepare(params, plan, kernel);
  if (error == cudaSuccess) {
    error = launch_scores(plan, kernel, params.batch, stream);
  }
  if (error == cudaSuccess) {
    const auto candidates =
        kernel.many_share ? selection_candidates_kernel<kManySharing> : selection_candidates_kernel<kFewSharing>;
    error = launch_rows<CandidatesSharedMemory>(candidates, plan, plan.cluster, kernel, stream);
  }
  return error != cudaSuccess ? error : launch_rows<PickSharedMemory>(selection_pick_kernel, plan, 1, kernel, stream);
}

}  // namespace retrosparse::kernels::sm90
