// Quantised linears of few units for 33 to 128 tokens on Hopper, whose k is cut into as many parts as a cluster has blocks.
#include "linear_batch_cluster.cuh"
#include "linear_batch_products.cuh"

namespace exllama {

#ifdef EXLLAMA_WGMMA

template <int kGroup, int kN, bool kOrdered>
__device__ __forceinline__ void linear_batch_cluster(const TensorBatchParams& params) {
  using Tile = BatchTile<kGroup, kN>;
  extern __shared__ uint8_t dynamic_shared[];
  const BatchLinear& p = params.linear;
  const uint32_t rank = cluster_rank(), blocks = cluster_blocks();
  const BatchShare share(p.k, p.units);
  const int begin = cluster_number() * share.slices;
  const int first = begin + share.slices * rank / blocks, last = begin + share.slices * (rank + 1) / blocks;
  const uint32_t base = (shared_address(dynamic_shared) + 1023) & ~1023u;
  BatchFlow<kGroup, kN> flow(params, share, base, first, last);
  allow_next();
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      barrier_init(flow.full(i), 1);
      barrier_init(flow.empty(i), kBatchWarps);
    }
    for (int i = 0; i < kBatchWarps * Tile::kSlots; ++i) barrier_init(base + Tile::kLoadedAt + 8 * i, 1);
    barrier_init_done();
  }
  __syncthreads();
#pragma unroll 1
  for (int i = 0; i < min(Tile::kSlots, last - first); ++i) flow.ask(i);
  wait_previous();
  if (threadIdx.x == 0)
#pragma unroll 1
    for (int i = 0; i < Tile::kStages - 1; ++i) flow.ask_x(i);
  __syncwarp();
  float dot[2][kN / 2], sum[kN / 2];
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) dot[0][i] = dot[1][i] = sum[i] = 0.f;
  multiply_by_warpgroups<kGroup, kN, kOrdered>(flow, last - first, 0, dot, sum);
  const unsigned thread = settled(threadIdx.x);
  const ClusterFinish<kGroup, kN> finish{p, settled(base), int(thread / kWarp), int(thread % kWarp)};
  finish.leave_piece(sum);
  cluster_arrive();
  cluster_wait();
  finish.share(cluster_number(), cluster_rank(), cluster_blocks());
  __syncwarp();
  cluster_arrive_relaxed();  // what was read of others is in sums already
  cluster_wait();
}

#endif  // EXLLAMA_WGMMA

}  // namespace exllama

#ifdef EXLLAMA_WGMMA
#define EXLLAMA_BATCH_BODY(GROUP, N, ORDERED) exllama::linear_batch_cluster<GROUP, N, ORDERED>(p)
#else
#define EXLLAMA_BATCH_BODY(GROUP, N, ORDERED)
#endif
#define EXLLAMA_BATCH(GROUP, N, SUFFIX, ORDERED)                                                                \
  extern "C" __global__ void __launch_bounds__(256, exllama::BatchTile<GROUP, N>::kBlocks)                        \
      linear_batch_cluster_q4_g##GROUP##_t##N##SUFFIX(const __grid_constant__ exllama::TensorBatchParams p) {     \
    EXLLAMA_BATCH_BODY(GROUP, N, ORDERED);                                                                        \
  }
#define EXLLAMA_BATCH_ORDERS(GROUP, N) EXLLAMA_BATCH(GROUP, N, , false) EXLLAMA_BATCH(GROUP, N, _ordered, true)
#define EXLLAMA_BATCH_TOKENS(GROUP) \
  EXLLAMA_BATCH_ORDERS(GROUP, 32)   \
  EXLLAMA_BATCH_ORDERS(GROUP, 64)   \
  EXLLAMA_BATCH_ORDERS(GROUP, 128)
EXLLAMA_BATCH_TOKENS(32)
EXLLAMA_BATCH_TOKENS(64)
EXLLAMA_BATCH_TOKENS(128)
