// A sparse decode step, and its last launch: a cluster to each row of a kSelected head, all of whose blocks pick alike
// and each of which attends to a share of what was picked.
#include "retrosparse_kernels/sparse_decode.h"

#include "sm90/decode_validity.h"
#include "sm90/launch.h"
#include "sm90/row_attention.cuh"
#include "sm90/selection_pick.cuh"
#include "sm90/sparse_decode_parts.h"

namespace retrosparse::kernels::sm90 {
namespace {

template <int kHeadDim>
struct PickAttendSharedMemory {
  PickSharedMemory pick;
  RowSharedMemory<kHeadDim> row;
};

template <int kHeadDim>
__global__ void __launch_bounds__(kPickThreads, 2)
    pick_attend_kernel(const __grid_constant__ SelectionKernelParams selection,
                       const __grid_constant__ RowAttentionParams attention, int32_t cluster) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  auto& shared = *reinterpret_cast<PickAttendSharedMemory<kHeadDim>*>(shared_bytes);
  allow_next_launch();
  const int32_t row = static_cast<int32_t>(blockIdx.x) / cluster;
  SelectionPick pick(selection, shared.pick, row);
  RowAttention<kHeadDim> attend(attention, selection, shared.row, pick.row());
  wait_for_counter(selection.listed + row, 1);
  pick.read();
  pick.prepare();
  pick.for_each_position(attend.first_to_prefetch(), attend.prefetch_stride(),
                         [&](int32_t position) { attend.prefetch(position); });
  wait_for_counter(selection.resident + row, 1);
  attend.read();
  const int32_t count = pick.find(attend.is_first());
  if (count > 0) {
    int32_t* out = selection.selected + static_cast<int64_t>(row) * selection.max_selected;
    pick.list([&](int32_t slot, int32_t position) {
      attend.take(slot, position, count);
      if (attend.is_first()) {
        out[slot] = position;
      }
    });
    __syncthreads();
    attend.attend(count);
  }
  attend.finish();
  if (attend.is_first() && threadIdx.x == 0) {  // the whole cluster has seen the flags
    selection.listed[row] = 0;
    selection.resident[row] = 0;
  }
  // Who waits for this launch relies on the one before it as well.
  wait_for_previous_launch();
}

template <int kHeadDim>
cudaError_t launch_pick(const SelectionPlan& plan, const SelectionKernelParams& selection,
                        const RowAttentionParams& attention, cudaStream_t stream) {
  constexpr size_t kSharedBytes = sizeof(PickAttendSharedMemory<kHeadDim>);
  static_assert(2 * (kSharedBytes + 1024) <= 228 * 1024, "two blocks to a multiprocessor");
  const cudaError_t error = allow_shared_memory(pick_attend_kernel<kHeadDim>, kSharedBytes);
  return error != cudaSuccess
             ? error
             : launch_overlapping_clusters(pick_attend_kernel<kHeadDim>, static_cast<unsigned>(plan.cluster),
                                           dim3(static_cast<unsigned>(plan.rows * plan.cluster)), kPickThreads,
                                           kSharedBytes, stream, selection, attention, plan.cluster);
}

}  // namespace

cudaError_t sparse_decode(const DecodeSelectionParams& selection, const DecodeAttentionParams& attention,
                          cudaStream_t stream) {
  const bool fit = attention.part == DecodePart::kResident && attention.batch == selection.batch &&
                   attention.query_tokens == selection.query_tokens && attention.num_heads == selection.num_heads &&
                   attention.num_key_value_heads == selection.num_key_value_heads;
  if (!fit || !is_valid(attention) || count_selected_heads(attention) != selection.num_selected_heads) {
    return cudaErrorInvalidValue;
  }
  if (has_nothing_to_do(selection)) {
    return decode_attention(attention, stream);
  }
  SelectionPlan plan;
  SelectionKernelParams kernel;
  cudaError_t error = prepare_selection(selection, plan, kernel);
  if (error != cudaSuccess || selection.lse_local != attention.lse) {
    return cudaErrorInvalidValue;
  }
  RowAttentionParams row{};
  row.q = static_cast<const __nv_bfloat16*>(attention.q);
  row.o = static_cast<__nv_bfloat16*>(attention.o);
  row.o_float = attention.o_float;
  row.lse = attention.lse;
  row.cache = attention.cache;
  row.heads_per_group = attention.num_heads / attention.num_key_value_heads;
  row.scale_log2 = attention.softmax_scale * 1.44269504f;
  // Each launch starts when the one before has started its last block. An attention of few blocks comes first, since
  // the candidates wait for the scores anyway; one of many would hold them up.
  const bool attention_first = starts_at_once_beside_selection(attention);
  const auto attend = [&] { return decode_attention_beside_selection(attention, kernel.resident, stream); };
  error = score_keys(plan, kernel, selection.batch, stream);
  if (error == cudaSuccess && attention_first) {
    error = attend();
  }
  if (error == cudaSuccess) {
    error = list_candidates(plan, kernel, stream);
  }
  if (error == cudaSuccess && !attention_first) {
    error = attend();
  }
  if (error != cudaSuccess) {
    return error;
  }
  return attention.head_dim == 64 ? launch_pick<64>(plan, kernel, row, stream)
                                  : launch_pick<128>(plan, kernel, row, stream);
}

}  // namespace retrosparse::kernels::sm90
