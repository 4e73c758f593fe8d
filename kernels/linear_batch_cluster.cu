// Quantised linears of few units for 17 to 128 tokens on Hopper: of a model's layers those whose k is long beside their outputs (o, down; q, k
// and v of grouped queries).
//
//   y_i[m, n_i] = sum_k x[m, k] * scale * (code - zero)_i[n_i, k]  (+ bias) (+ residual)
//
// for up to three weights that share x, or for gate and up with silu(gate) * up as the result.
//
// linear_batch_cluster_q4_g128_t32_ordered, _q4_g{32,64,128}_t{64,128}_ordered
//   Strategy   Units, products and rings are those of linear_batch_wgmma.cu. There runs of slices leave pieces in device memory, and one block
//              adds all of a unit: with many blocks to a unit that takes longer than the products. Here the blocks of a cluster
//              share a unit: k is cut into as many even parts as there are blocks. Each leaves the sums of its part in its own shared
//              memory, where its weights were; then cells of 8 tokens x 16 outputs are dealt out to all warps of the cluster
//              (ClusterFinish::share), which read the parts' sums of theirs from all blocks, add them and make the results. Nothing
//              goes through device memory, and every block makes as many results as any other.
//              Clusters take whole turns on the card: how many blocks they have is decided by what is told of that (batch-cut.ts).
//   _ordered   x is in the order of codes (code_order.cuh); there are no others.
//   barriers   loaded, full, empty: see linear_batch_wgmma.cu, for one run of slices.
//              cluster, twice, all threads of all blocks: sums are in shared memory (released by a fence for that memory alone,
//              acquired by the wait); all have been read, before which no block may end. Each thread arrives at both whatever its
//              part of the outputs is, and waits for nothing of other blocks in between; the blocks of a cluster run at once by
//              the card's promise. So nobody waits in a circle.
// Bits         A part's sum is over k in ascending order, parts are added in ascending order of k, then bias, then silu or the residual
//              stream: the bits depend on the launch's shape, never on timing. Operands as in linear_batch_wgmma.cu.
// Layout       quantized.cuh; sums: [warp][kN / 8][lane][4] f32 in each block, as lanes have them
// Limits       sm_90a (not there elsewhere); m <= N; k % 256 == 0, n % 8 == 0, 16-byte aligned x, y; clusters of at most 8 blocks, and of no more
//              than a unit has slices: a block without any would wait for the first; norms are not put off (from 17 tokens on nobody asks)
// Reference    linear_q4_g*_ref of linear_quantized.cu
#include "linear_batch_cluster.cuh"
#include "linear_batch_products.cuh"

#ifdef EXLLAMA_WGMMA

namespace exllama {

template <int kGroup, int kN>
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
  multiply_by_warpgroups<kGroup, kN, true>(flow, last - first, 0, dot, sum);
  const unsigned thread = settled(threadIdx.x);
  const ClusterFinish<kGroup, kN> finish{p, settled(base), int(thread / kWarp), int(thread % kWarp)};
  finish.leave_piece(sum);
  cluster_arrive_shared();
  cluster_wait();
  finish.share(cluster_number(), cluster_rank(), cluster_blocks());
  __syncwarp();
  cluster_arrive();  // what was read of others is in sums already
  cluster_wait();
}

}  // namespace exllama

// grid: units times the cluster's blocks, by wgmmaBatchLaunch(); block 256, BatchTile::kShared bytes of dynamic shared memory.
#define EXLLAMA_BATCH(GROUP, N)                                                                                 \
  extern "C" __global__ void __launch_bounds__(256, exllama::BatchTile<GROUP, N>::kBlocks)                      \
      linear_batch_cluster_q4_g##GROUP##_t##N##_ordered(const __grid_constant__ exllama::TensorBatchParams p) { \
    exllama::linear_batch_cluster<GROUP, N>(p);                                                                 \
  }
EXLLAMA_BATCH(128, 32)
EXLLAMA_BATCH(128, 64)
EXLLAMA_BATCH(128, 128)
EXLLAMA_BATCH(64, 64)
EXLLAMA_BATCH(64, 128)
EXLLAMA_BATCH(32, 64)
EXLLAMA_BATCH(32, 128)

#endif  // EXLLAMA_WGMMA
