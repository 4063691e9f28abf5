// Launches of a sparse decode step.
#include "retrosparse_kernels/sparse_decode.h"

#include <algorithm>

#include "sm90/decode_launch.cuh"
#include "sm90/decode_selection.cuh"
#include "sm90/launch.h"
#include "sm90/row_attention.cuh"
#include "sm90/selection_scores.cuh"

namespace retrosparse::kernels::sm90 {
namespace {

static_assert(kScoreThreads == kDecodeThreads, "blocks of both kinds are in one launch");

struct SparseDecodeKernelParams {
  DecodeKernelParams attention;
  SelectionKernelParams selection;
  int32_t resident_blocks;
};

template <int kHeadDim>
union ReadSharedMemory {
  DecodeSharedMemory<kHeadDim> attention;
  ThresholdSharedMemory threshold;
  ScoreSharedMemory scores;
};

/// Everything that is read in order: sinks, window and the keys of dense heads, which leave partial results, and the
/// index keys, which leave candidates. First the blocks that find the candidates' thresholds.
template <int kHeadDim, int kRows>
__global__ void __launch_bounds__(kDecodeThreads, 2)
    sparse_decode_read_kernel(const __grid_constant__ SparseDecodeKernelParams params) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& shared = *reinterpret_cast<ReadSharedMemory<kHeadDim>*>(shared_bytes);
  allow_next_launch();
  wait_for_previous_launch();
  auto block = static_cast<int32_t>(blockIdx.x);
  const auto rows = static_cast<int32_t>(params.selection.plan.rows);
  if (block < rows) {
    SelectionThreshold(params.selection, shared.threshold, block).run();
    return;
  }
  block -= rows;
  if (block < params.resident_blocks) {
    const DecodePlan& plan = params.attention.plan;
    const int32_t tiles = params.attention.num_key_value_heads * plan.row_tiles;
    const int32_t pair = block / plan.units();
    DecodeUnit unit;
    if (find_unit(params.attention, block % plan.units(), pair % tiles, pair / tiles, unit)) {
      DecodeAttention<kHeadDim>(params.attention, unit, shared.attention).run();
      DecodeMerge<kHeadDim>(params.attention, unit, shared.attention).publish();
    }
    return;
  }
  block -= params.resident_blocks;
  const int32_t blocks = params.selection.score_blocks();
  SelectionScores<kRows>(params.selection, shared.scores, block % blocks, block / blocks).run();
}

template <int kHeadDim>
struct FinishSharedMemory {
  PickSharedMemory pick;
  RowSharedMemory<kHeadDim> row;
};

/// A row of a kSelected head, by a cluster: every block picks the keys, attends to its part of them, and adds its part
/// of what the first launch left.
template <int kHeadDim>
__device__ void finish_selected_row(const SparseDecodeKernelParams& params, FinishSharedMemory<kHeadDim>& shared,
                                    int32_t row, bool writes) {
  SelectionPick pick(params.selection, shared.pick, row);
  RowAttention<kHeadDim> attention(params.attention, shared.row, pick.row());
  wait_for_previous_launch();
  pick.load();
  attention.load_query();
  const float lse_local = attention.lse_local();
  attention.add_resident();
  const int32_t count = pick.find(lse_local, writes);
  if (count > 0) {
    const int32_t begin = attention.begin(count);
    const int32_t end = attention.end(count);
    int32_t* out = params.selection.selected == nullptr
                       ? nullptr
                       : params.selection.selected + static_cast<int64_t>(row) * params.selection.max_selected;
    pick.list([&](int32_t slot, int32_t position) {
      if (slot >= begin && slot < end) {
        shared.row.positions[slot - begin] = position;
        if (out != nullptr) {
          out[slot] = position;
        }
      }
    });
    __syncthreads();
    attention.attend(end - begin);
  }
  attention.finish();
}

/// A row of another head, by a warp: the sum of what the first launch left.
template <int kHeadDim>
__device__ void finish_resident_row(const DecodeKernelParams& params, int32_t row) {
  const DecodePlan& plan = params.plan;
  const int32_t head = row % params.num_heads;
  const HeadMode mode = params.head_modes[head];
  if (mode == HeadMode::kSelected) {
    return;
  }
  const int32_t token = row / params.num_heads % params.query_tokens;
  const int32_t sequence = row / params.num_heads / params.query_tokens;
  const int32_t row_of_group = token * plan.heads_per_group + head % plan.heads_per_group;
  const int32_t pair = (sequence * params.num_key_value_heads + head / plan.heads_per_group) * plan.row_tiles +
                       row_of_group / kDecodeRows;
  WeightSum total;
  float4 output;
  sum_partials<kHeadDim>(
      DecodePartials::of<kHeadDim>(params, pair), plan.window_splits + (mode == HeadMode::kDense ? plan.far_splits : 0),
      0, 1, [&](int32_t i) { return i * kDecodeRows + row_of_group % kDecodeRows; }, total, output);
  const auto lane = static_cast<int32_t>(threadIdx.x % 32);
  if (lane < kHeadDim / 4) {
    const uint2 packed = {pack_bf16(output.x / total.sum, output.y / total.sum),
                          pack_bf16(output.z / total.sum, output.w / total.sum)};
    reinterpret_cast<uint2*>(params.o + static_cast<int64_t>(row) * kHeadDim)[lane] = packed;
  }
  if (lane == 0 && params.lse != nullptr) {
    params.lse[row] = natural_log(total);
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(kPickThreads, 1)
    sparse_decode_finish_kernel(const __grid_constant__ SparseDecodeKernelParams params, int32_t cluster) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& shared = *reinterpret_cast<FinishSharedMemory<kHeadDim>*>(shared_bytes);
  allow_next_launch();
  const int32_t selected_blocks = static_cast<int32_t>(params.selection.plan.rows) * cluster;
  const auto block = static_cast<int32_t>(blockIdx.x);
  if (block < selected_blocks) {
    finish_selected_row(params, shared, block / cluster, block % cluster == 0);
    return;
  }
  wait_for_previous_launch();
  const int32_t row = (block - selected_blocks) * kPickWarps + static_cast<int32_t>(threadIdx.x / 32);
  if (row < params.attention.rows()) {
    finish_resident_row<kHeadDim>(params.attention, row);
  }
}

struct SparseDecodePlan {
  DecodePlan attention;
  SelectionPlan selection;
};

cudaError_t make_plan(const SparseDecodeParams& params, SparseDecodePlan& plan, int32_t& multiprocessors) {
  if (const cudaError_t error = find_multiprocessors(multiprocessors); error != cudaSuccess) {
    return error;
  }
  plan.selection = count_selection_rows(params.selection);
  SplitKind scores = selection_split_kind(params.selection, plan.selection);
  plan.attention = make_resident_plan(params.attention, score_slots(plan.selection, multiprocessors), scores);
  set_splits(params.selection, scores.splits, plan.selection);
  return cudaSuccess;
}

bool fit_together(const DecodeAttentionParams& attention, const DecodeSelectionParams& selection) {
  int32_t rank = 0;
  for (int32_t h = 0; h < attention.num_heads; ++h) {
    if (attention.head_modes[h] == HeadMode::kSelected) {
      if (rank == selection.num_selected_heads || selection.selected_heads[rank] != h) {
        return false;
      }
      ++rank;
    }
  }
  return rank == selection.num_selected_heads && attention.batch == selection.batch &&
         attention.query_tokens == selection.query_tokens && attention.num_heads == selection.num_heads &&
         attention.num_key_value_heads == selection.num_key_value_heads && attention.max_keys == selection.max_keys &&
         attention.sink_tokens == selection.sink_tokens && attention.window == selection.window &&
         attention.key_counts == selection.key_counts;
}

bool is_consistent(const SparseDecodeParams& params) {
  return has_valid_shape(params.attention) && has_valid_shape(params.selection) &&
         fit_together(params.attention, params.selection);
}

size_t attention_offset(const SelectionPlan& plan) {
  return (SelectionWorkspace(plan).bytes + 15) / 16 * 16;
}

template <int kHeadDim>
cudaError_t launch(const SparseDecodeKernelParams& kernel, int32_t batch, int32_t multiprocessors,
                   cudaStream_t stream) {
  const SelectionPlan& plan = kernel.selection.plan;
  const auto blocks = static_cast<unsigned>(plan.rows + kernel.resident_blocks +
                                            int64_t{batch} * plan.splits * plan.row_chunks * plan.groups);
  constexpr size_t kReadBytes = sizeof(ReadSharedMemory<kHeadDim>);
  const cudaError_t error = plan.rows_at_once == 2
                                ? launch_overlapping(sparse_decode_read_kernel<kHeadDim, 2>, 1, blocks, kDecodeThreads,
                                                     kReadBytes, stream, kernel)
                                : launch_overlapping(sparse_decode_read_kernel<kHeadDim, kMostRowsAtOnce>, 1, blocks,
                                                     kDecodeThreads, kReadBytes, stream, kernel);
  if (error != cudaSuccess) {
    return error;
  }
  // As many blocks to a selected row as run at the same time.
  constexpr int64_t kMostCluster = 8;
  int64_t cluster = 1;
  while (cluster < kMostCluster && 2 * cluster * plan.rows <= multiprocessors) {
    cluster *= 2;
  }
  const int64_t resident_blocks = (kernel.attention.rows() + kPickWarps - 1) / kPickWarps;
  const int64_t clusters = plan.rows + (resident_blocks + cluster - 1) / cluster;
  return launch_overlapping(sparse_decode_finish_kernel<kHeadDim>, static_cast<unsigned>(cluster),
                            static_cast<unsigned>(clusters * cluster), kPickThreads,
                            sizeof(FinishSharedMemory<kHeadDim>), stream, kernel, static_cast<int32_t>(cluster));
}

}  // namespace

size_t sparse_decode_workspace(const SparseDecodeParams& params) {
  SparseDecodePlan plan{};
  int32_t multiprocessors = 0;
  if (!is_consistent(params) || make_plan(params, plan, multiprocessors) != cudaSuccess) {
    return 0;
  }
  return attention_offset(plan.selection) + partial_bytes(params.attention, plan.attention);
}

cudaError_t sparse_decode(const SparseDecodeParams& params, cudaStream_t stream) {
  if (!is_consistent(params) || !is_valid(params.attention) || params.workspace == nullptr ||
      !are_aligned(16, params.workspace) || (params.selection.num_selected_heads > 0 && !is_valid(params.selection))) {
    return cudaErrorInvalidValue;
  }
  if (params.attention.batch == 0) {
    return cudaSuccess;
  }
  SparseDecodePlan plan{};
  int32_t multiprocessors = 0;
  if (const cudaError_t error = make_plan(params, plan, multiprocessors); error != cudaSuccess) {
    return error;
  }
  auto* workspace = static_cast<unsigned char*>(params.workspace);
  const SparseDecodeKernelParams kernel = {
      make_kernel_params(params.attention, plan.attention, workspace + attention_offset(plan.selection)),
      make_kernel_params(params.selection, plan.selection, workspace),
      static_cast<int32_t>(count_pairs(params.attention, plan.attention) * plan.attention.units())};
  return params.attention.head_dim == 64 ? launch<64>(kernel, params.attention.batch, multiprocessors, stream)
                                         : launch<128>(kernel, params.attention.batch, multiprocessors, stream);
}

}  // namespace retrosparse::kernels::sm90
