// Blocks of a cluster (sm_90 and later): they run at once, meet, and write to each other's shared memory. Whoever launches says how many
// blocks a cluster has (`cluster` in src/backend/cuda/launch/launch.ts).
#pragma once

#include "giving_up.cuh"
#include "registers.cuh"

#ifdef EXLLAMA_WGMMA

namespace exllama {

/// All threads of a cluster that have not ended; what they have read and written of their own shared memory is over. The fences are for that memory
/// alone: a release of the barrier's would be one for the whole device, about a microsecond.
__device__ __forceinline__ void meet_cluster() {
  __syncwarp();
  asm volatile(
      "fence.proxy.async.shared::cta;\nfence.release.sync_restrict::shared::cta.cluster;\n"
      "barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
          : "memory");
}
/// Where the cluster's block of this rank has what this block has at a shared address.
__device__ __forceinline__ uint32_t cluster_address(uint32_t shared, int rank) {
  uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared), "r"(rank));
  return there;
}
/// Stores 16 bytes in a block's shared memory, and says so to a barrier of that block, which expects them.
__device__ __forceinline__ void store_cluster(uint32_t to, const float* four, uint32_t barrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to), "f"(four[0]), "f"(four[1]),
               "f"(four[2]), "f"(four[3]), "r"(barrier)
               : "memory");
}
/// Until the first phase of a barrier has ended, and what it expected from other blocks can be read.
__device__ __forceinline__ void wait_handed(uint32_t barrier) {
  uint32_t done = 0;
  for (unsigned polls = 0; !done; ++polls) {
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(barrier)
                 : "memory");
    if (polls == kMostPolls) give_up();
  }
}

}  // namespace exllama

#endif
