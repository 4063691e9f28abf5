#pragma once
// A consumer warpgroup of the prefill kernel: 64 queries of every item, attention over the steps that the producer
// lays out. After FlashAttention-3 (Shah et al., arXiv 2407.08608): while the tensor cores form the scores of step i +
// 1 and the output of step i, the other warpgroup computes its softmax, and then the roles change.
#include "sm90/prefill_softmax.cuh"

namespace retrosparse::kernels::sm90 {

template <class Config>
class PrefillConsumer {
 public:
  using Shared = PrefillSharedMemory<Config>;

  __device__ PrefillConsumer(const PrefillKernelParams& params, Shared& shared)
      : params_(params),
        shared_(shared),
        warpgroup_(__shfl_sync(0xffffffffu, threadIdx.x / kWarpgroup - 1, 0)),
        lane_(threadIdx.x % 32),
        row_(threadIdx.x % kWarpgroup / 32 * 16 + lane_ / 4) {}

  __device__ void run() {
    if (warpgroup_ == 1) {
      let_other_start();  // warpgroup 0 has the first turn
    }
    while (wait_for_item()) {
      attend();
    }
  }

 private:
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kLn2 = 0.69314718f;
  static constexpr int kHeadDim = Config::kHeadDim;
  static constexpr int kHalves = kHeadDim / 64;
  static constexpr int kOutputs = kHeadDim / 2;  // per thread
  static constexpr uint32_t kQueryHalfBytes = sizeof(typename Shared::QueryTile) / kHalves;
  static constexpr uint32_t kKeyHalfBytes = sizeof(typename Shared::KeyTiles) / kHalves;

  /// The weights of a step as A operands of its output product.
  using Weights = uint32_t[kScores / 8][4];

  __device__ void attend() {
    OnlineSoftmax softmax{params_.softmax_scale * kLog2E};
    float scores[kScores];
    float output[kOutputs];
    Weights even, odd;  // of alternate steps: one is written while the tensor cores still read the other
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) {
      output[i] = 0;
    }

    KeyStep step = wait_for_keys();
    start_scores(scores);
    step = broadcast(step);
    wgmma_wait<0>();
    settle(scores);
    release_keys();
    float factor[2];
    mask(scores, step);
    softmax.update(scores, factor);
    pack_weights(scores, even);

    while (!(step.flags & KeyStep::kLast)) {
      step = next_step(softmax, scores, output, even, odd);
      if (step.flags & KeyStep::kLast) {
#pragma unroll
        for (int i = 0; i < kScores / 2; ++i) {
          even[i / 4][i % 4] = odd[i / 4][i % 4];
        }
        break;
      }
      step = next_step(softmax, scores, output, odd, even);
    }

    wait_for_values();
    start_output(output, even);
    wgmma_wait<0>();
    settle(output);
    release_values();
    store(softmax, output);
    query_ring_.advance();
  }

  /// The next step's scores and the output of the step behind `weights`, on the tensor cores together; then the next
  /// step's weights, beside the output.
  __device__ KeyStep next_step(OnlineSoftmax& softmax, float (&scores)[kScores], float (&output)[kOutputs],
                               Weights& weights, Weights& next_weights) {
    KeyStep step = wait_for_keys();
    wait_for_turn();
    start_scores(scores);
    wait_for_values();
    start_output(output, weights);
    let_other_start();
    step = broadcast(step);  // while the tensor cores work
    wgmma_wait<1>();
    settle(scores);
    release_keys();
    // The branch also keeps the compiler from waiting for the output before the softmax is done. Warps of a warpgroup
    // part here, so there is no wait inside: all of them have to execute the same one (PTX ISA, wgmma.wait_group).
    float factor[2] = {1, 1};
    const bool lazy = !(step.flags & KeyStep::kMasked) && softmax.update_lazily(scores, next_weights);
    if (!lazy) {
      mask(scores, step);
      softmax.update(scores, factor);
      pack_weights(scores, next_weights);
      settle(scores);
    }
    __syncwarp();
    wgmma_wait<0>();
    settle(output);
    if (!lazy && __any_sync(0xffffffffu, factor[0] != 1.0f || factor[1] != 1.0f)) {
      scale_rows(output, factor);
    }
    settle(weights);
    release_values();
    return step;
  }

  /// False when there is none any more.
  __device__ bool wait_for_item() {
    shared_.q_full[query_ring_.stage].wait(query_ring_.parity);
    return shared_.items[query_ring_.stage].query_row != ItemInfo::kStop;
  }

  /// Waits for the next step's keys; its description comes to lane 0.
  __device__ KeyStep wait_for_keys() {
    shared_.k_full[key_ring_.stage].wait(key_ring_.parity);
    // Only the lane that gives the stage back reads what the producer overwrites then.
    return lane_ == 0 ? shared_.steps[key_ring_.stage] : KeyStep{};
  }

  /// What the first lane has of a step, for all.
  __device__ static KeyStep broadcast(const KeyStep& step) {
    return {{__shfl_sync(0xffffffffu, step.first_key[0], 0), __shfl_sync(0xffffffffu, step.first_key[1], 0)},
            __shfl_sync(0xffffffffu, step.flags, 0)};
  }

  __device__ void release_keys() {
    release(shared_.k_empty[key_ring_.stage]);
    key_ring_.advance();
  }

  __device__ void wait_for_values() {
    shared_.v_full[value_ring_.stage].wait(value_ring_.parity);
  }

  __device__ void release_values() {
    release(shared_.v_empty[value_ring_.stage]);
    value_ring_.advance();
  }

  __device__ void mask(float (&scores)[kScores], const KeyStep& step) {
    if (step.flags & KeyStep::kMasked) {
      const ItemInfo& item = shared_.items[query_ring_.stage];
      const int32_t position = item.first_position + 64 * warpgroup_ + row_;
      if (params_.part == PrefillPart::kSelected) {
        mask_all_but_far(scores, step, position, item.window, params_.sink_tokens);
      } else {
        mask_scores(scores, step, position, item.window, params_.sink_tokens);
      }
    }
  }

  /// scores = q k^T.
  __device__ void start_scores(float (&scores)[kScores]) {
    const uint64_t k = matrix_descriptor(shared_address(shared_.k[key_ring_.stage]), 0);
    const uint64_t q = matrix_descriptor(shared_address(shared_.q[query_ring_.stage]) + warpgroup_ * 64 * 128, 0);
    settle(scores);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i) {
      const uint64_t k_slice = advance(k, i / 4 * kKeyHalfBytes + i % 4 * 32);
      const uint64_t q_slice = advance(q, i / 4 * kQueryHalfBytes + i % 4 * 32);
      if (i == 0) {
        wgmma<false>(scores, q_slice, k_slice);
      } else {
        wgmma<true>(scores, q_slice, k_slice);
      }
    }
    wgmma_commit();
  }

  /// output += weights v.
  __device__ void start_output(float (&output)[kOutputs], uint32_t (&weights)[kScores / 8][4]) {
    const uint64_t v = matrix_descriptor(shared_address(shared_.v[value_ring_.stage]), kKeyHalfBytes);
    settle(output);
    settle(weights);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kStepKeys / 16; ++i) {
      wgmma<true, true>(output, weights[i], advance(v, i * 16 * 128));
    }
    wgmma_commit();
  }

  /// Normalises the output and takes it through this warp's own rows of the query tile, which no product reads any
  /// more, to global memory in whole rows.
  __device__ void store(const OnlineSoftmax& softmax, float (&output)[kOutputs]) {
    named_barrier_sync(kFirstStoreBarrier + warpgroup_, kWarpgroup);  // the other warps are done with the queries too
    const int32_t thread = local_thread_index() % kWarpgroup;
    const int32_t lane = thread % 32;
    const int32_t first_row = 64 * warpgroup_ + thread / 32 * 16 + lane / 4;
    const ItemInfo item = shared_.items[query_ring_.stage];
    const bool merges = params_.part == PrefillPart::kSelected;
    float factor[2], previous_factor[2];  // of what was computed now and what kResident left
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float sum = softmax.total(row);
      const int32_t query = min(first_row + 8 * row, item.query_count - 1);
      float* lse =
          params_.lse == nullptr ? nullptr : params_.lse + item.head * params_.lse_head_stride + item.query_row + query;
      const float previous = merges ? *lse * kLog2E : -INFINITY;
      const float reference = fmaxf(previous, softmax.reference[row]);
      previous_factor[row] = merges ? exp2_approximate(previous - reference) : 0.0f;
      factor[row] = sum > 0 ? exp2_approximate(softmax.reference[row] - reference) : 0.0f;
      const float total = previous_factor[row] + factor[row] * sum;
      previous_factor[row] /= total;
      factor[row] /= total;
      __syncwarp();  // the quad has read the lse that its first lane replaces
      if (lse != nullptr && lane % 4 == 0 && first_row + 8 * row < item.query_count) {
        *lse = (reference + log2f(total)) * kLn2;
      }
    }
    scale_rows(output, factor);

    auto* tile = reinterpret_cast<unsigned char*>(shared_.q[query_ring_.stage]);
#pragma unroll
    for (int j = 0; j < kHeadDim / 8; ++j) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const int32_t r = first_row + 8 * row;
        auto* chunk = tile + j / 8 * kQueryHalfBytes + r * 128 + ((j % 8) ^ (r % 8)) * 16;
        reinterpret_cast<uint32_t*>(chunk)[lane % 4] = pack_bf16(output[4 * j + 2 * row], output[4 * j + 2 * row + 1]);
      }
    }
    __syncwarp();
    constexpr int kChunks = kHeadDim / 8;  // 16 bytes each, of a row
    const int32_t warp_row = first_row - lane / 4;
    const int32_t column_chunk = lane % kChunks;
#pragma unroll
    for (int i = 0; i < kChunks / 2; ++i) {
      const int32_t r = warp_row + i * (32 / kChunks) + lane / kChunks;
      const auto* chunk = tile + column_chunk / 8 * kQueryHalfBytes + r * 128 + ((column_chunk % 8) ^ (r % 8)) * 16;
      const int32_t warp_r = r - warp_row;
      const float keep = __shfl_sync(0xffffffffu, previous_factor[i * (32 / kChunks) / 8], warp_r % 8 * 4);
      if (r < item.query_count) {
        auto* row = reinterpret_cast<uint4*>(params_.o + (item.query_row + r) * params_.o_token_stride +
                                             item.head * params_.o_head_stride) +
                    column_chunk;
        const uint4 result = *reinterpret_cast<const uint4*>(chunk);
        *row = merges ? add_scaled(result, keep, *row) : result;
      }
    }
    fence_async_proxy();
    shared_.q_empty[query_ring_.stage].arrive();
  }

  /// sum + factor * values for eight bf16 each.
  __device__ static uint4 add_scaled(const uint4& sum, float factor, const uint4& values) {
    const auto add = [factor](uint32_t a, uint32_t b) {
      return pack_bf16(__uint_as_float(a << 16) + factor * __uint_as_float(b << 16),
                       __uint_as_float(a & 0xffff0000u) + factor * __uint_as_float(b & 0xffff0000u));
    };
    return make_uint4(add(sum.x, values.x), add(sum.y, values.y), add(sum.z, values.z), add(sum.w, values.w));
  }

  /// One arrival per warp, after the reads of all its lanes: a warp's wait for its products covers its own reads only.
  __device__ void release(Barrier& empty) {
    __syncwarp();
    if (lane_ == 0) {
      empty.arrive();
    }
  }

  // The two warpgroups take turns in giving products to the tensor cores.
  static constexpr int kFirstTurnBarrier = 1;
  static constexpr int kFirstStoreBarrier = kFirstTurnBarrier + kConsumerWarpgroups;
  __device__ void wait_for_turn() {
    named_barrier_sync(kFirstTurnBarrier + warpgroup_, kConsumerThreads);
  }
  __device__ void let_other_start() {
    named_barrier_arrive(kFirstTurnBarrier + 1 - warpgroup_, kConsumerThreads);
  }

  const PrefillKernelParams& params_;
  Shared& shared_;
  const int32_t warpgroup_;
  const int32_t lane_;
  const int32_t row_;  ///< the thread's first row among the warpgroup's 64; the second is 8 further
  Ring<Config::kQueryStages> query_ring_;
  Ring<Config::kKeyStages> key_ring_, value_ring_;
};

}  // namespace retrosparse::kernels::sm90
