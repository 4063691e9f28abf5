// Launches of decode selection.
#include "sm90/decode_selection.cuh"

#include <algorithm>

#include "sm90/launch.h"
#include "sm90/selection_pick.cuh"
#include "sm90/selection_scores.cuh"

namespace retrosparse::kernels::sm90 {
namespace {

union SelectionScoresSharedMemory {
  ThresholdSharedMemory threshold;
  ScoreSharedMemory scores;
};

/// First the blocks that find the thresholds of the rows, then those that score.
template <int kRows>
__global__ void __launch_bounds__(kScoreThreads, 2)
    selection_scores_kernel(const __grid_constant__ SelectionKernelParams params) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& shared = *reinterpret_cast<SelectionScoresSharedMemory*>(shared_bytes);
  allow_next_launch();
  wait_for_previous_launch();
  const auto rows = static_cast<int32_t>(params.plan.rows);
  const auto block = static_cast<int32_t>(blockIdx.x);
  if (block < rows) {
    SelectionThreshold(params, shared.threshold, block).run();
  } else {
    const int32_t blocks = params.score_blocks();
    SelectionScores<kRows>(params, shared.scores, (block - rows) % blocks, (block - rows) / blocks).run();
  }
}

__global__ void __launch_bounds__(kPickThreads, 1)
    selection_pick_kernel(const __grid_constant__ SelectionKernelParams params) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  allow_next_launch();
  SelectionPick pick(params, *reinterpret_cast<PickSharedMemory*>(shared_bytes), static_cast<int32_t>(blockIdx.x));
  wait_for_previous_launch();
  const SelectionRow& row = pick.row();
  const int64_t query = static_cast<int64_t>(row.sequence) * params.query_tokens + row.token;
  const float lse_local = params.lse_local[query * params.num_heads + row.head];
  pick.load();
  const int32_t count = pick.find(lse_local, true);
  if (count > 0) {
    int32_t* out = params.selected + static_cast<int64_t>(row.index) * params.max_selected;
    pick.list([&](int32_t slot, int32_t position) { out[slot] = position; });
  }
}

template <int kRows>
cudaError_t launch_scores(const SelectionKernelParams& kernel, int32_t batch, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(kernel.plan.rows + int64_t{batch} * kernel.plan.splits *
                                                                   kernel.plan.row_chunks * kernel.plan.groups);
  return launch_overlapping(selection_scores_kernel<kRows>, 1, blocks, kScoreThreads,
                            sizeof(SelectionScoresSharedMemory), stream, kernel);
}

}  // namespace

bool has_valid_shape(const DecodeSelectionParams& params) {
  const bool valid = params.batch >= 0 && params.batch <= 65535 && params.query_tokens >= 1 &&
                     params.query_tokens <= 8 && params.num_heads > 0 && params.num_key_value_heads > 0 &&
                     params.num_heads % params.num_key_value_heads == 0 && params.num_selected_heads >= 0 &&
                     params.num_selected_heads <= std::min(params.num_heads, kSelectionMaxHeads) &&
                     int64_t{params.batch} * params.query_tokens * params.num_selected_heads <=
                         static_cast<int64_t>(kSelectionCounterBytes / sizeof(uint32_t)) &&
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

bool is_valid(const DecodeSelectionParams& params) {
  const IndexCache& cache = params.cache;
  return has_valid_shape(params) && are_aligned(16, cache.keys, params.workspace) && cache.keys != nullptr &&
         are_multiples(8, cache.sequence_stride, cache.group_stride) && params.key_counts != nullptr &&
         params.queries != nullptr && params.gates != nullptr && params.selected_counts != nullptr &&
         (cache.page_table == nullptr || (cache.page_size > 0 && (cache.page_size & (cache.page_size - 1)) == 0));
}

SelectionWorkspace::SelectionWorkspace(const SelectionPlan& plan) {
  const auto rows = static_cast<size_t>(plan.rows);
  const auto all_segments = rows * static_cast<size_t>(plan.segments());
  segments = kSelectionCounterBytes;
  candidates = segments + all_segments * sizeof(Segment);
  bytes = candidates + all_segments * static_cast<size_t>(plan.capacity) * sizeof(Candidate);
}

SelectionKernelParams make_kernel_params(const DecodeSelectionParams& params, const SelectionPlan& plan,
                                         void* workspace) {
  SelectionKernelParams kernel{};
  kernel.queries = params.queries;
  kernel.gates = params.gates;
  kernel.lse_local = params.lse_local;
  kernel.cache = params.cache;
  kernel.key_counts = params.key_counts;
  kernel.selected = params.selected;
  kernel.selected_counts = params.selected_counts;
  kernel.far_mass = params.far_mass;
  auto* bytes = static_cast<unsigned char*>(workspace);
  const SelectionWorkspace places(plan);
  kernel.thresholds = reinterpret_cast<uint32_t*>(bytes);
  kernel.segments = reinterpret_cast<Segment*>(bytes + places.segments);
  kernel.candidates = reinterpret_cast<Candidate*>(bytes + places.candidates);
  kernel.plan = plan;
  kernel.query_tokens = params.query_tokens;
  kernel.num_heads = params.num_heads;
  kernel.num_selected_heads = params.num_selected_heads;
  kernel.max_selected = params.max_selected;
  kernel.sink_tokens = params.sink_tokens;
  kernel.window = params.window;
  find_index_groups(params, kernel.first_of_group);
  for (int32_t r = 0; r < params.num_selected_heads; ++r) {
    kernel.heads[r] = static_cast<int16_t>(params.selected_heads[r]);
    kernel.p[r] = params.rules[r].p;
    kernel.min_tokens[r] = static_cast<int16_t>(params.rules[r].min_tokens);
    kernel.max_tokens[r] = static_cast<int16_t>(params.rules[r].max_tokens);
  }
  return kernel;
}

size_t decode_selection_workspace(const DecodeSelectionParams& params) {
  int32_t multiprocessors = 0;
  if (!has_valid_shape(params) || find_multiprocessors(multiprocessors) != cudaSuccess) {
    return 0;
  }
  return SelectionWorkspace(make_selection_plan(params, multiprocessors)).bytes;
}

cudaError_t decode_selection(const DecodeSelectionParams& params, cudaStream_t stream) {
  if (has_valid_shape(params) && (params.batch == 0 || params.num_selected_heads == 0)) {
    return cudaSuccess;
  }
  if (!is_valid(params) || params.workspace == nullptr || params.lse_local == nullptr || params.selected == nullptr) {
    return cudaErrorInvalidValue;
  }
  int32_t multiprocessors = 0;
  if (const cudaError_t error = find_multiprocessors(multiprocessors); error != cudaSuccess) {
    return error;
  }
  const SelectionPlan plan = make_selection_plan(params, multiprocessors);
  const SelectionKernelParams kernel = make_kernel_params(params, plan, params.workspace);
  const cudaError_t error = plan.rows_at_once == 2 ? launch_scores<2>(kernel, params.batch, stream)
                                                   : launch_scores<kMostRowsAtOnce>(kernel, params.batch, stream);
  return error != cudaSuccess ? error
                              : launch_overlapping(selection_pick_kernel, 1, static_cast<unsigned>(plan.rows),
                                                   kPickThreads, sizeof(PickSharedMemory), stream, kernel);
}

}  // namespace retrosparse::kernels::sm90
