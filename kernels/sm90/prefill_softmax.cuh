#pragma once
// Masking and online softmax on a warpgroup's 64 x 128 score tile, held as wgmma accumulators (see wgmma.cuh): a thread
// has parts of two rows, shared with the three other threads of its quad.
#include "sm90/prefill_shared.cuh"
#include "sm90/wgmma.cuh"

namespace retrosparse::kernels::sm90 {

inline constexpr int kScores = 64;  // per thread

/// Sets the scores of keys that their query does not see to -inf. `position` is that of the thread's first row.
__device__ inline void mask_scores(float (&scores)[kScores], const KeyStep& step, int32_t position, int32_t window,
                                   int32_t sink_tokens) {
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    // Bounds relative to the thread's first key of the tile, so that what remains per score is constant.
    const int32_t first_key = step.first_key[tile] + 2 * (threadIdx.x % 4);
    const int32_t width = (step.flags & (KeyStep::kSelected << tile)) ? KeyRange::kUnlimited : window;
    const int32_t sink_end = sink_tokens - first_key;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int32_t last = position + 8 * row - first_key;
      const int32_t before_window = last - width;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int32_t key = 8 * j + e;
          if (key > last || (key <= before_window && key >= sink_end)) {
            scores[tile * 32 + 4 * j + 2 * row + e] = -INFINITY;
          }
        }
      }
    }
  }
}

/// The same where only far keys count: neither sinks nor in the window.
__device__ inline void mask_all_but_far(float (&scores)[kScores], const KeyStep& step, int32_t position, int32_t window,
                                        int32_t sink_tokens) {
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    const int32_t first_key = step.first_key[tile] + 2 * (threadIdx.x % 4);
    const int32_t first_far = sink_tokens - first_key;
#pragma unroll
    for (int i = 0; i < kScores / 2; ++i) {
      const int32_t key = 8 * (i / 4) + i % 2;
      const int32_t last_far = position + 8 * (i / 2 % 2) - window - first_key;
      if (key > last_far || key < first_far) {
        scores[tile * 32 + i] = -INFINITY;
      }
    }
  }
}

/// Online softmax of a thread's two rows (Milakov & Gimelshein, arXiv 1805.02867) to the base 2:
/// weight = 2^(score * scale_log2 - reference), where the reference is the largest exponent seen so far.
struct OnlineSoftmax {
  static constexpr float kLargestWeight = 65536;
  float scale_log2;  ///< softmax_scale * log2(e), positive
  float reference[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};  ///< of the weights, over the thread's own columns

  /// Turns scores into weights relative to the new reference; factor[row] takes what was accumulated before to it and
  /// is exactly 1 where the reference stays.
  __device__ void update(float (&scores)[kScores], float (&factor)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      // Two chains each for maximum and sum, to halve the latency.
      float even = scores[2 * row];
      float odd = scores[2 * row + 1];
#pragma unroll
      for (int j = 1; j < kScores / 4; ++j) {
        even = fmaxf(even, scores[4 * j + 2 * row]);
        odd = fmaxf(odd, scores[4 * j + 2 * row + 1]);
      }
      float maximum = fmaxf(even, odd);
      maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
      maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
      // Rounded once: fused into a later subtraction it would differ from itself.
      const float new_reference = fmaxf(reference[row], __fmul_rn(maximum, scale_log2));
      // A row that has seen no key yet: any finite reference keeps -inf - -inf out.
      const float finite = new_reference == -INFINITY ? 0.0f : new_reference;
      factor[row] = exp2_approximate(reference[row] - finite);
      reference[row] = new_reference;
      float even_sum = sum[row] * factor[row];
      float odd_sum = 0;
#pragma unroll
      for (int j = 0; j < kScores / 4; ++j) {
        float& first = scores[4 * j + 2 * row];
        float& second = scores[4 * j + 2 * row + 1];
        first = exp2_approximate(first * scale_log2 - finite);
        second = exp2_approximate(second * scale_log2 - finite);
        even_sum += first;
        odd_sum += second;
      }
      sum[row] = even_sum + odd_sum;
    }
  }

  /// As update() followed by packing, with the reference that is, for as long as that is safe: weights may grow up to
  /// kLargestWeight, which costs no precision in bf16 and float32. Returns false, and changes nothing but `packed`,
  /// where a row of the warp would go past it.
  __device__ bool update_lazily(const float (&scores)[kScores], uint32_t (&packed)[kScores / 8][4]) {
    float step_sum[2][2] = {};
#pragma unroll
    for (int k = 0; k < kScores / 8; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = i % 2;
        const float first = exp2_approximate(scores[8 * k + 2 * i] * scale_log2 - reference[row]);
        const float second = exp2_approximate(scores[8 * k + 2 * i + 1] * scale_log2 - reference[row]);
        step_sum[row][0] += first;
        step_sum[row][1] += second;
        packed[k][i] = pack_bf16(first, second);
      }
    }
    const float sums[2] = {step_sum[0][0] + step_sum[0][1], step_sum[1][0] + step_sum[1][1]};
    // A row that has seen no key yet has an infinite sum here.
    const bool safe = fmaxf(sums[0], sums[1]) < kLargestWeight;
    if (!__all_sync(0xffffffffu, safe)) {
      return false;
    }
    sum[0] += sums[0];
    sum[1] += sums[1];
    return true;
  }

  /// The sum of row `row` over all its columns.
  __device__ float total(int row) const {
    float total = sum[row];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    return total;
  }
};

/// The weights as A operands of eight k = 16 products.
__device__ inline void pack_weights(const float (&weights)[kScores], uint32_t (&packed)[kScores / 8][4]) {
#pragma unroll
  for (int k = 0; k < kScores / 8; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      packed[k][i] = pack_bf16(weights[8 * k + 2 * i], weights[8 * k + 2 * i + 1]);
    }
  }
}

template <int kCount>
__device__ inline void scale_rows(float (&output)[kCount], const float (&factor)[2]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    output[i] *= factor[i / 2 % 2];
  }
}

}  // namespace retrosparse::kernels::sm90
