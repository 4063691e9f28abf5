// Launches of decode selection.
#include "sm90/launch.h"
#include "sm90/selection_candidates.cuh"
#include "sm90/selection_pick.cuh"
#include "sm90/selection_plan.h"
#include "sm90/selection_scores.cuh"
#include "sm90/sparse_decode_parts.h"

namespace retrosparse::kernels::sm90 {
namespace {

template <int kRows, bool kPaged>
__global__ void __launch_bounds__(kScoreThreads, 2)
    selection_scores_kernel(const __grid_constant__ SelectionKernelParams params, int32_t row_chunks) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  // In this order: what overlaps this launch may rely on all before it.
  wait_for_previous_launch();
  allow_next_launch();
  SelectionScores<kRows, kPaged>(params, *reinterpret_cast<ScoreSharedMemory<kRows>*>(shared_bytes))
      .run(blockIdx.y / row_chunks, blockIdx.y % row_chunks * kRows);
}

union SelectionSharedMemory {
  CandidatesSharedMemory candidates;
  PickSharedMemory pick;
};

/// kPicks: the last block of a row to list candidates also takes what the rule wants of them.
template <bool kPicks>
__global__ void __launch_bounds__(kPickThreads, 2)
    selection_candidates_kernel(const __grid_constant__ SelectionKernelParams params) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  allow_next_launch();
  auto& shared = *reinterpret_cast<SelectionSharedMemory*>(shared_bytes);
  if (SelectionCandidates(params, shared.candidates).run(!kPicks) && kPicks) {
    const int32_t row = static_cast<int32_t>(blockIdx.x) / params.segments;
    SelectionPick pick(params, shared.pick, row);
    pick.read();
    pick.prepare();
    if (pick.find(true) > 0) {
      int32_t* out = params.selected + static_cast<int64_t>(row) * params.max_selected;
      pick.list([out](int32_t slot, int32_t position) { out[slot] = position; });
    }
  }
  // Who waits for this launch relies on the one before it as well. One block is enough, and the others make room.
  if (blockIdx.x == gridDim.x - 1) {
    wait_for_previous_launch();
  }
}

template <int kRows, bool kPaged>
cudaError_t launch_scores(const SelectionPlan& plan, const SelectionKernelParams& kernel, int32_t batch,
                          cudaStream_t stream) {
  constexpr int kSharedBytes = sizeof(ScoreSharedMemory<kRows>);
  const cudaError_t error = allow_shared_memory(selection_scores_kernel<kRows, kPaged>, kSharedBytes);
  const dim3 grid(plan.blocks, plan.groups * plan.row_chunks, batch);
  return error != cudaSuccess ? error
                              : launch_overlapping(selection_scores_kernel<kRows, kPaged>, grid, kScoreThreads,
                                                   kSharedBytes, stream, kernel, plan.row_chunks);
}
template <bool kPaged>
cudaError_t launch_scores(const SelectionPlan& plan, const SelectionKernelParams& kernel, int32_t batch,
                          cudaStream_t stream) {
  switch (plan.rows_at_once) {
    case 1:
      return launch_scores<1, kPaged>(plan, kernel, batch, stream);
    case 2:
      return launch_scores<2, kPaged>(plan, kernel, batch, stream);
    case 4:
      return launch_scores<4, kPaged>(plan, kernel, batch, stream);
    default:
      return launch_scores<8, kPaged>(plan, kernel, batch, stream);
  }
}
cudaError_t launch_scores(const SelectionPlan& plan, const SelectionKernelParams& kernel, int32_t batch,
                          cudaStream_t stream) {
  return kernel.cache.page_table == nullptr ? launch_scores<false>(plan, kernel, batch, stream)
                                            : launch_scores<true>(plan, kernel, batch, stream);
}

template <bool kPicks>
cudaError_t launch_candidates(const SelectionPlan& plan, const SelectionKernelParams& params, cudaStream_t stream) {
  constexpr int kSharedBytes = kPicks ? sizeof(SelectionSharedMemory) : sizeof(CandidatesSharedMemory);
  const cudaError_t error = allow_shared_memory(selection_candidates_kernel<kPicks>, kSharedBytes);
  const dim3 grid(static_cast<unsigned>(plan.rows * plan.segments));
  return error != cudaSuccess ? error
                              : launch_overlapping(selection_candidates_kernel<kPicks>, grid, kPickThreads,
                                                   kSharedBytes, stream, params);
}

}  // namespace

cudaError_t score_keys(const SelectionPlan& plan, const SelectionKernelParams& params, int32_t batch,
                       cudaStream_t stream) {
  return launch_scores(plan, params, batch, stream);
}

cudaError_t list_candidates(const SelectionPlan& plan, const SelectionKernelParams& params, cudaStream_t stream) {
  return launch_candidates<false>(plan, params, stream);
}

size_t decode_selection_workspace(const DecodeSelectionParams& params) {
  SelectionPlan plan;
  return make_selection_plan(params, plan) == cudaSuccess ? plan.bytes() : 0;
}

cudaError_t decode_selection(const DecodeSelectionParams& params, cudaStream_t stream) {
  if (has_nothing_to_do(params)) {
    return cudaSuccess;
  }
  SelectionPlan plan;
  SelectionKernelParams kernel;
  cudaError_t error = prepare_selection(params, plan, kernel);
  error = error != cudaSuccess ? error : launch_scores(plan, kernel, params.batch, stream);
  return error != cudaSuccess ? error : launch_candidates<true>(plan, kernel, stream);
}

}  // namespace retrosparse::kernels::sm90
