// Thread blocks of a cluster (sm_90 and later): they run at the same time and read each other's shared memory. On other
// cards a block is a cluster of its own.
#pragma once

#include "common.cuh"

namespace exllama {

/// Blocks along x that make a cluster.
__device__ __forceinline__ int cluster_size() {
#if __CUDA_ARCH__ >= 900
  uint32_t size;
  asm volatile("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(size));
  return size;
#else
  return 1;
#endif
}

/// All of this block's threads are here, and what they wrote is there for those who wait; blocks that have ended are not waited for.
__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

__device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/// What lies at `mine` in the shared memory of the cluster's block `rank`.
__device__ __forceinline__ float4 load_of_block(const float4* mine, int rank) {
#if __CUDA_ARCH__ >= 900
  float4 v;
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there];\n"
      "}"
      : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
      : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(mine))), "r"(rank)
      : "memory");
  return v;
#else
  return *mine;
#endif
}

}  // namespace exllama
