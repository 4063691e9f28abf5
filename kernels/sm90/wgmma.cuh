#pragma once
// Warpgroup matrix multiply-accumulate (wgmma) on bf16 operands with float32 accumulators.
//
// Accumulator layout of an M = 64 tile, for thread t of the warpgroup (warp = t / 32, lane = t % 32): d[4 j + 2 i + e]
// is row 16 warp + lane / 4 + 8 i, column 8 j + 2 (lane % 4) + e. Two such column groups, converted to bf16 and packed
// in pairs, are the A operand of a k = 16 product, so that softmax(QK^T) feeds PV without leaving the registers.
#include <cuda_bf16.h>

#include <cstdint>

#include "sm90/ptx.cuh"

namespace retrosparse::kernels::sm90 {

/// Shared-memory matrix descriptor of a tile that TMA wrote with 128-byte swizzle: rows of 128 bytes, in groups of
/// eight (1024 bytes, aligned to that).
/// K-major (the contiguous dimension is the summed one): a k = 16 slice is 32 bytes further.
/// MN-major (V: the contiguous dimension is the output column): a k = 16 slice is 16 rows, 2048 bytes further, and
/// `column_stride` bytes lead from 64 columns to the next 64.
__device__ inline uint64_t matrix_descriptor(uint32_t address, uint32_t column_stride) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  constexpr uint64_t kRowGroupStride = uint64_t{1024 >> 4} << 32;
  return kSwizzle128 | kRowGroupStride | static_cast<uint64_t>(column_stride >> 4) << 16 | (address & 0x3ffffu) >> 4;
}
/// The same for rows of 32 bytes (one k = 16 slice, K-major) that TMA wrote with 32-byte swizzle, in groups of eight
/// (256 bytes, aligned to that).
__device__ inline uint64_t narrow_matrix_descriptor(uint32_t address) {
  constexpr uint64_t kSwizzle32 = uint64_t{3} << 62;
  constexpr uint64_t kRowGroupStride = uint64_t{256 >> 4} << 32;
  return kSwizzle32 | kRowGroupStride | uint64_t{1} << 16 | (address & 0x3ffffu) >> 4;
}
/// Moves a descriptor by a multiple of 16 bytes.
__device__ inline uint64_t advance(uint64_t descriptor, uint32_t bytes) {
  return descriptor + (bytes >> 4);
}

/// Before the first wgmma, and whenever ordinary code has touched an accumulator or a register operand since the last.
__device__ inline void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most kPending of the committed groups are under way. The registers that those groups no longer write
/// have to be named to the compiler by settle().
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
/// Keeps the compiler from moving uses of registers that a product reads or writes across this point.
template <int kCount>
__device__ inline void settle(float (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+f"(registers[i])::"memory");
  }
}
template <int kCount>
__device__ inline void settle(uint32_t (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+r"(registers[i])::"memory");
  }
}
template <int kCount>
__device__ inline void settle(uint32_t (&registers)[kCount][4]) {
#pragma unroll
  for (int i = 0; i < 4 * kCount; ++i) {
    asm volatile("" : "+r"(registers[i / 4][i % 4])::"memory");
  }
}

#define RETROSPARSE_ACCUMULATORS_16(d, i)                                                                     \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7]), "+f"(d[i + 8]), "+f"(d[i + 9]), "+f"(d[i + 10]), "+f"(d[i + 11]), "+f"(d[i + 12]),      \
      "+f"(d[i + 13]), "+f"(d[i + 14]), "+f"(d[i + 15])
#define RETROSPARSE_ACCUMULATORS_32(d) RETROSPARSE_ACCUMULATORS_16(d, 0), RETROSPARSE_ACCUMULATORS_16(d, 16)
#define RETROSPARSE_ACCUMULATORS_64(d) \
  RETROSPARSE_ACCUMULATORS_32(d), RETROSPARSE_ACCUMULATORS_16(d, 32), RETROSPARSE_ACCUMULATORS_16(d, 48)
#define RETROSPARSE_OPERANDS_32                                             \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
#define RETROSPARSE_OPERANDS_64                                                      \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "          \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "

/// d (+)= A B with A [64 x 16] and B [16 x 128] in shared memory, both K-major. Starts the product only.
template <bool kAccumulate>
__device__ inline void wgmma(float (&d)[64], uint64_t a, uint64_t b) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " RETROSPARSE_OPERANDS_64 "%64, %65, p, 1, 1, 0, 0;\n}"
      : RETROSPARSE_ACCUMULATORS_64(d)
      : "l"(a), "l"(b), "n"(int32_t{kAccumulate}));
}

/// d (+)= A B with A [64 x 16] in registers and B [16 x 128] in shared memory, MN-major if kTransposed.
template <bool kAccumulate, bool kTransposed>
__device__ inline void wgmma(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " RETROSPARSE_OPERANDS_64
      "{%64, %65, %66, %67}, %68, p, 1, 1, %70;\n}"
      : RETROSPARSE_ACCUMULATORS_64(d)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(int32_t{kAccumulate}), "n"(int32_t{kTransposed}));
}

/// The same with B [16 x 64].
template <bool kAccumulate, bool kTransposed>
__device__ inline void wgmma(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " RETROSPARSE_OPERANDS_32
      "{%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}"
      : RETROSPARSE_ACCUMULATORS_32(d)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(int32_t{kAccumulate}), "n"(int32_t{kTransposed}));
}

/// d = A B in binary16 with A [64 x 16] in registers and B [16 x 128] in shared memory, K-major; float32 accumulators.
__device__ inline void wgmma_half(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, 0, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " RETROSPARSE_OPERANDS_64
      "{%64, %65, %66, %67}, %68, p, 1, 1, 0;\n}"
      : RETROSPARSE_ACCUMULATORS_64(d)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#define RETROSPARSE_PAIRS_16(d, i)                                                                            \
  "+r"(d[i]), "+r"(d[i + 1]), "+r"(d[i + 2]), "+r"(d[i + 3]), "+r"(d[i + 4]), "+r"(d[i + 5]), "+r"(d[i + 6]), \
      "+r"(d[i + 7]), "+r"(d[i + 8]), "+r"(d[i + 9]), "+r"(d[i + 10]), "+r"(d[i + 11]), "+r"(d[i + 12]),      \
      "+r"(d[i + 13]), "+r"(d[i + 14]), "+r"(d[i + 15])

/// The same with B [16 x 256] and binary16 accumulators, two neighbouring columns to a register: d[2 j + i] is row
/// 16 warp + lane / 4 + 8 i, columns 8 j + 2 (lane % 4) + {0, 1}.
__device__ inline void wgmma_half(uint32_t (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, 0, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f16.f16.f16 " RETROSPARSE_OPERANDS_64
      "{%64, %65, %66, %67}, %68, p, 1, 1, 0;\n}"
      : RETROSPARSE_PAIRS_16(d, 0), RETROSPARSE_PAIRS_16(d, 16), RETROSPARSE_PAIRS_16(d, 32),
        RETROSPARSE_PAIRS_16(d, 48)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef RETROSPARSE_PAIRS_16
#undef RETROSPARSE_OPERANDS_64
#undef RETROSPARSE_OPERANDS_32
#undef RETROSPARSE_ACCUMULATORS_64
#undef RETROSPARSE_ACCUMULATORS_32
#undef RETROSPARSE_ACCUMULATORS_16

/// Two floats as bf16, `low` in the lower half, rounded to nearest even.
__device__ inline uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}

}  // namespace retrosparse::kernels::sm90
