#include "sm90/selection_plan.h"

#include <algorithm>

#include "sm90/selection_radix.cuh"
#include "sm90/selection_scores.cuh"

namespace retrosparse::kernels::sm90 {
namespace {

constexpr int kMostRowsAtOnce = 8;
constexpr int32_t kLongRow = 16384;  // tiles
constexpr int32_t kMaxCluster = 8;
constexpr int64_t kMostRows = kSelectionCounterBytes / (3 * sizeof(int32_t));

size_t score_bytes(const SelectionPlan& plan) {
  return static_cast<size_t>(plan.rows) * plan.tiles * kScoreTile * sizeof(float);
}
size_t maxima_bytes(const SelectionPlan& plan) {
  return (static_cast<size_t>(plan.rows) * plan.tiles * sizeof(uint32_t) + 15) / 16 * 16;
}
size_t sum_bytes(const SelectionPlan& plan) {
  return (static_cast<size_t>(plan.rows) * plan.blocks * sizeof(ScoreSum) + 15) / 16 * 16;
}
size_t candidate_bytes(const SelectionPlan& plan) {
  return static_cast<size_t>(plan.rows) * plan.segments * kCandidates * sizeof(Candidate);
}

bool has_valid_shape(const DecodeSelectionParams& params) {
  const bool valid = params.batch >= 0 && params.batch <= 65535 && params.query_tokens >= 1 &&
                     params.query_tokens <= 8 && params.num_heads > 0 && params.num_key_value_heads > 0 &&
                     params.num_heads % params.num_key_value_heads == 0 && params.num_selected_heads >= 0 &&
                     params.num_selected_heads <= std::min(params.num_heads, kSelectionMaxHeads) &&
                     int64_t{params.batch} * params.query_tokens * params.num_selected_heads <= kMostRows &&
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

}  // namespace

size_t SelectionPlan::bytes() const {
  return kSelectionCounterBytes + score_bytes(*this) + maxima_bytes(*this) + sum_bytes(*this) + candidate_bytes(*this) +
         static_cast<size_t>(rows) * segments * sizeof(CandidateSum);
}

bool has_nothing_to_do(const DecodeSelectionParams& params) {
  return has_valid_shape(params) && (params.batch == 0 || params.num_selected_heads == 0);
}

cudaError_t make_selection_plan(const DecodeSelectionParams& params, SelectionPlan& plan) {
  if (!has_valid_shape(params)) {
    return cudaErrorInvalidValue;
  }
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
  const int32_t steps = (params.max_keys + kStepKeys - 1) / kStepKeys;
  plan.tiles = (steps * kStepTiles + 3) / 4 * 4;
  plan.rows = int64_t{params.batch} * params.query_tokens * params.num_selected_heads;
  // A block to each multiprocessor in all, two where that would leave more than a quarter of them idle, but none with
  // less than two steps for each warp.
  const int64_t grid = std::max<int64_t>(1, int64_t{plan.groups} * plan.row_chunks * params.batch);
  const int64_t most = (steps + 2 * kScoreWarps - 1) / (2 * kScoreWarps);
  const int64_t single = multiprocessors / grid;
  const int64_t blocks = 4 * single * grid >= int64_t{3} * multiprocessors ? single : 2 * multiprocessors / grid;
  plan.blocks = static_cast<int32_t>(std::clamp<int64_t>(blocks, 1, std::min<int64_t>(most, kPickThreads)));
  // As many blocks as there is work for, but no more than leave room for the attention beside them.
  plan.segments = 1;
  const int32_t most_segments = plan.tiles > kLongRow ? kMaxSegments : kMaxSegments / 2;
  while (plan.segments < most_segments && plan.segments * plan.rows <= multiprocessors) {
    plan.segments *= 2;
  }
  plan.cluster = std::min(plan.segments, kMaxCluster);
  return cudaSuccess;
}

cudaError_t prepare_selection(const DecodeSelectionParams& params, SelectionPlan& plan, SelectionKernelParams& kernel) {
  const IndexCache& cache = params.cache;
  const auto is_aligned = [](const void* pointer) {
    return pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  };
  if (!is_aligned(cache.keys) || !is_aligned(params.workspace) || cache.sequence_stride % 8 != 0 ||
      cache.group_stride % 8 != 0 || params.key_counts == nullptr || params.queries == nullptr ||
      params.gates == nullptr || params.lse_local == nullptr || params.selected == nullptr ||
      params.selected_counts == nullptr ||
      (cache.page_table != nullptr && (cache.page_size <= 0 || (cache.page_size & (cache.page_size - 1)) != 0))) {
    return cudaErrorInvalidValue;
  }
  if (const cudaError_t error = make_selection_plan(params, plan); error != cudaSuccess) {
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
  kernel.counters = reinterpret_cast<int32_t*>(workspace);
  kernel.listed = kernel.counters + kMostRows;
  kernel.resident = kernel.listed + kMostRows;
  workspace += kSelectionCounterBytes;
  kernel.scores = reinterpret_cast<float*>(workspace);
  workspace += score_bytes(plan);
  kernel.tile_maxima = reinterpret_cast<uint32_t*>(workspace);
  workspace += maxima_bytes(plan);
  kernel.sums = reinterpret_cast<ScoreSum*>(workspace);
  workspace += sum_bytes(plan);
  kernel.candidates = reinterpret_cast<Candidate*>(workspace);
  workspace += candidate_bytes(plan);
  kernel.candidate_sums = reinterpret_cast<CandidateSum*>(workspace);
  kernel.tiles = plan.tiles;
  kernel.blocks = plan.blocks;
  kernel.segments = plan.segments;
  kernel.max_keys = params.max_keys;
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

}  // namespace retrosparse::kernels::sm90
