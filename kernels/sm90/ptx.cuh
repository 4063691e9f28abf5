#pragma once
// Hopper's asynchronous machinery as plain functions: memory barriers, the tensor memory accelerator (TMA), named
// barriers, register reallocation. Each is one PTX instruction; the PTX ISA describes them under the quoted names.
#include <cuda.h>

#include <cstdint>

namespace retrosparse::kernels::sm90 {

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// An mbarrier in shared memory. A phase ends when the expected threads have arrived and the expected bytes have
/// landed; wait(parity) returns once the phase of that parity (0, 1, 0, ...) has ended.
struct Barrier {
  uint64_t state;

  __device__ void init(uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&state)), "r"(arrivals));
  }
  __device__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&state)) : "memory");
  }
  __device__ void arrive_expecting(uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&state)), "r"(bytes)
                 : "memory");
  }
  __device__ void wait(uint32_t parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "try_again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra try_again;\n"
        "}" ::"r"(shared_address(&state)),
        "r"(parity)
        : "memory");
  }
};

/// Position in a ring of kStages buffers, with the parity of the current round.
template <int kStages>
struct Ring {
  int32_t stage = 0;
  uint32_t parity = 0;

  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// Makes initialised mbarriers visible to the TMA unit; a __syncthreads() must follow.
__device__ inline void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Orders this thread's ordinary accesses to shared memory before later ones of the TMA unit and the tensor cores.
__device__ inline void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Copies the box at the given coordinates (innermost first) to shared memory; its bytes count on `barrier`.
__device__ inline void tma_load(void* destination, const CUtensorMap* map, Barrier& barrier, int32_t c0, int32_t c1,
                                int32_t c2, int32_t c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
      "[%6];" ::"r"(shared_address(destination)),
      "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(shared_address(&barrier))
      : "memory");
}

__device__ inline void prefetch_tensor_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/// Hardware barrier `id` (1 to 15; 0 is __syncthreads) among `threads` threads, counted in whole warps.
__device__ inline void named_barrier_sync(int32_t id, int32_t threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void named_barrier_arrive(int32_t id, int32_t threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// Registers per thread of the calling warpgroup from here on (multiples of 8).
template <int kRegisters>
__device__ inline void increase_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void decrease_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// threadIdx.x as a value that is read where it stands: what is derived from it is computed there and not, ahead of a
/// long loop, kept in registers through it.
__device__ inline int32_t local_thread_index() {
  int32_t index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}

/// Launches that overlap (programmatic dependent launch, see launch.h). wait: until the launches before this one are
/// complete and their results visible; before the first access to global memory that they may have part in.
/// allow: the next launch may start its blocks where there is room.
__device__ inline void wait_for_previous_launch() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}
__device__ inline void allow_next_launch() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/// Adds one to a counter; what the block wrote before its last barrier is visible to who acquires it.
template <class Integer>
__device__ inline void count_released(Integer* counter) {
  static_assert(sizeof(Integer) == 4);
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}
template <class Integer>
__device__ inline Integer load_acquired(const Integer* counter) {
  static_assert(sizeof(Integer) == 4);
  Integer value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
  return value;
}

/// Accesses past L1 that need no order: what one block of a launch writes and another one looks at until it is there.
__device__ inline void store_relaxed(float4* target, const float4& value) {
  asm volatile("st.relaxed.gpu.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(target), "f"(value.x), "f"(value.y),
               "f"(value.z), "f"(value.w)
               : "memory");
}
__device__ inline void store_relaxed(float2* target, const float2& value) {
  asm volatile("st.relaxed.gpu.global.v2.f32 [%0], {%1, %2};" ::"l"(target), "f"(value.x), "f"(value.y) : "memory");
}
__device__ inline float4 load_relaxed(const float4* source) {
  float4 value;
  asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "l"(source)
               : "memory");
  return value;
}
__device__ inline float2 load_relaxed(const float2* source) {
  float2 value;
  asm volatile("ld.relaxed.gpu.global.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "l"(source) : "memory");
  return value;
}

/// An L2 policy for what is read once: the first to leave, so that what was written there before stays. Loads with any
/// policy are a little slower than loads without.
__device__ inline uint64_t evict_first_policy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
/// 16 bytes by such a policy. Nobody may write them during the launch.
__device__ inline uint4 load_by_policy(const void* source, uint64_t policy) {
  uint4 value;
  asm("ld.global.nc.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
      : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
      : "l"(source), "l"(policy));
  return value;
}

/// 2^x by the special-function unit, relative error below 2^-22; 2^-inf is 0.
__device__ inline float exp2_approximate(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace retrosparse::kernels::sm90
