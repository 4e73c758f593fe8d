// Hopper's asynchronous machinery (sm_90a): products of warpgroups straight from shared memory,
// barriers in shared memory, tensor copies. Everything here exists in
// the sm_90a image only; kernels that need it are empty for the other cards, where the host
// never chooses them (src/backend/cuda/linears/gemm-launch.ts).
//
// Source: PTX ISA 9.0, "Asynchronous Warpgroup Level Matrix Instructions", "mbarrier".
#pragma once

#include "registers.cuh"

#ifdef EXLLAMA_WGMMA

namespace exllama {

__device__ __forceinline__ uint32_t shared_address(const void* shared) { return static_cast<uint32_t>(__cvta_generic_to_shared(shared)); }

// Barriers --------------------------------------------------------------------------------------

__device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

/// After the inits and before other threads or the copy engine use the barriers.
__device__ __forceinline__ void barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Arrives, and the phase will not end before `bytes` more have been copied.
__device__ __forceinline__ void barrier_expect(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/// Until the phase of this parity has ended.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  do {
    asm volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (!done);
}

/// What this thread wrote to shared memory becomes visible to tensor cores and the copy engine.
__device__ __forceinline__ void publish_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// A box of a tensor map at (x, y), x running fastest; parts outside of the tensor become zeros.
__device__ __forceinline__ void copy_box(uint32_t to, const void* map, int x, int y, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to), "l"(map),
      "r"(x), "r"(y), "r"(barrier)
      : "memory");
}

// Products --------------------------------------------------------------------------------------

/// Describes fp16 rows of 64 k (128 bytes) in shared memory, 16-byte cells exchanged by `cell ^ (row % 8)`
/// ("128-byte swizzle"), eight rows 1024 bytes apart. Add 2 for the next 16 k.
__device__ __forceinline__ uint64_t wgmma_operand(uint32_t address) {
  return uint64_t((address & 0x3ffff) >> 4) | uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}

__device__ __forceinline__ void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
/// Keeps the compiler from reading accumulators before the wait above.
template <int kCount>
__device__ __forceinline__ void wgmma_results(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

/// d[64 x kN] (+)= a[64 x 16] b[kN x 16]^T by the four warps of a warpgroup, fp32. Warp w of it owns rows
/// 16 w ..; with g = lane / 4, t = lane % 4: d[4 j + 0, 1] row g, columns 8 j + 2 t, + 1; d[4 j + 2, 3] row g + 8.
template <int kN>
__device__ __forceinline__ void wgmma_k16(float (&d)[kN / 2], uint64_t a, uint64_t b, int accumulate);

// Registers of a product's sums, 32 at a time: their places in the instruction's text, and their constraints.
#define EXLLAMA_SUMS_TEXT_32                                                                       \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                          \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define EXLLAMA_SUMS_TEXT_64                                                                       \
  EXLLAMA_SUMS_TEXT_32 ", "                                                                         \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define EXLLAMA_SUMS_TEXT_128                                                                      \
  EXLLAMA_SUMS_TEXT_64 ", "                                                                         \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "    \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define EXLLAMA_SUMS_8(d, i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define EXLLAMA_SUMS_32(d, i) EXLLAMA_SUMS_8(d, i), EXLLAMA_SUMS_8(d, i + 8), EXLLAMA_SUMS_8(d, i + 16), EXLLAMA_SUMS_8(d, i + 24)
#define EXLLAMA_SUMS_64(d, i) EXLLAMA_SUMS_32(d, i), EXLLAMA_SUMS_32(d, i + 32)

template <>
__device__ __forceinline__ void wgmma_k16<64>(float (&d)[32], uint64_t a, uint64_t b, int accumulate) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %34, 0;"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" EXLLAMA_SUMS_TEXT_32 "}, %32, %33, p, 1, 1, 0, 0; }"
      : EXLLAMA_SUMS_32(d, 0)
      : "l"(a), "l"(b), "r"(accumulate));
}

template <>
__device__ __forceinline__ void wgmma_k16<128>(float (&d)[64], uint64_t a, uint64_t b, int accumulate) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %66, 0;"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" EXLLAMA_SUMS_TEXT_64 "}, %64, %65, p, 1, 1, 0, 0; }"
      : EXLLAMA_SUMS_64(d, 0)
      : "l"(a), "l"(b), "r"(accumulate));
}

template <>
__device__ __forceinline__ void wgmma_k16<256>(float (&d)[128], uint64_t a, uint64_t b, int accumulate) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %130, 0;"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {" EXLLAMA_SUMS_TEXT_128 "}, %128, %129, p, 1, 1, 0, 0; }"
      : EXLLAMA_SUMS_64(d, 0), EXLLAMA_SUMS_64(d, 64)
      : "l"(a), "l"(b), "r"(accumulate));
}

/// Four 8 x 8 fp16 matrices to shared memory, the fragments of a product's result.
__device__ __forceinline__ void store_matrix_x4(void* shared, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(shared)), "r"(r[0]), "r"(r[1]),
               "r"(r[2]), "r"(r[3])
               : "memory");
}

}  // namespace exllama
#endif
