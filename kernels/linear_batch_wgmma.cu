// Quantised linears for some to some dozens of tokens on Hopper: batches of decode steps, short prompts.
//
//   y_i[m, n_i] = sum_k x[m, k] * scale * (code - zero)_i[n_i, k]  (+ bias) (+ residual)
//
// for up to three weights that share x, or for gate and up with silu(gate) * up as the result.
//
// linear_batch_wgmma_q4_g{32,64,128}_t{8,16}, _t{32,64,128}, _t{32,64,128}_ordered
//   Strategy   y^T = w x^T, weights unpacked to operand A in registers, x as operand B from shared memory: from 32 tokens on in products
//              of warpgroups, as in linear_prompt.cu; these take as long for 8 tokens as for 32, so up to 16 there are those of warps.
//              Few tokens make few tiles, so k is cut, too: a unit is 128 outputs times all tokens, and all slices (256 k) of all
//              units are dealt out to the blocks in equal runs (stream-k). A piece is what a warp computes of its row tile in a
//              unit. Runs leave their pieces of a unit in device memory, but for the one that the unit begins in: it adds them to
//              its own and makes the results.
//              A warp's weights come through a ring of its own, three copies (codes, scales, zeros) for a slice, beginning
//              before the kernel ahead has ended; x through a ring of the block's, pair of chunks after pair, asked for by the
//              first warp. Several blocks share a multiprocessor and hide each other's beginnings and ends.
//              From 17 tokens on adding a unit's pieces may take longer than its products: see linear_batch_cluster.cu, and batch-cut.ts for which
//              of both it is.
//   _ordered   x is in the order of codes (code_order.cuh): without, lanes exchange their codes. Products of warps need neither.
//   barriers   loaded[w][s]: a warp's slice; one arrival (its lane 0, which expects kSliceBytes) and those bytes. The warp asks for the
//              next slice of a place when all its lanes have read the last chunk there.
//              full[s]: a pair of x; one arrival (the asking thread, which expects kStageBytes) and those bytes, always whole:
//              what lies outside of x is zeros. empty[s]: eight arrivals, lane 0 of each warp, when its products of the pair are done
//              (warpgroups: in the first step of the next pair, or at the end of a piece). In a step of the pair after it the
//              first warp asks for what comes in that place: it has arrived there itself, and the others need no later pair to do
//              so. So every phase ends.
//              squares: eight arrivals, when a warp has its part of the squares of x (deferred_norm.cuh), before it multiplies; whoever makes results waits.
//              Named 1 to 8: the sums of a warp of up's are in shared memory, and have been read by the warp of gate's.
//   pieces     Every place holds kAbsent, a NaN that no arithmetic makes, until a piece is left there; whoever adds it looks until all
//              of it has come, and puts kAbsent back. Nothing is ordered by a fence, and no number is counted. A block waits for
//              blocks of lower numbers only, which begin no later, and has left its own piece by then: nobody waits in a circle,
//              also where not all of the grid runs at once. If one does not come, the launch ends with an error.
//   norms      Up to 16 tokens a norm may be put off: see deferred_norm.cuh. Whoever adds to the residual stream then leaves the next x and its
//              squares, row tile by row tile, and blocks that read it add the squares up while their weights and x are on their way.
// Bits         The sum of a piece is over k in ascending order, pieces are added in ascending order: the bits depend on the launch's shape, never on timing.
//              Up to 32 tokens (with groups of 32 and 64: 16) operands are code - zero, exact, and the fp32 sum of each group is scaled;
//              else they are fp16(scale * (code - zero)).
// Layout       quantized.cuh; pieces: [place][warp][kN / 8][lane][4] f32, as lanes have them: see BatchFinish::piece()
// Limits       sm_90a (not there elsewhere); m <= N; k % 256 == 0, n % 8 == 0, 16-byte aligned x, y
// Reference    linear_q4_g*_ref of linear_quantized.cu
#include "linear_batch_finish.cuh"
#include "linear_batch_products.cuh"

#ifdef EXLLAMA_WGMMA

namespace exllama {

template <int kGroup, int kN, bool kOrdered>
__device__ __forceinline__ void linear_batch_wgmma(const TensorBatchParams& params) {
  using Tile = BatchTile<kGroup, kN>;
  extern __shared__ uint8_t dynamic_shared[];
  const BatchLinear& p = params.linear;
  const BatchShare share(p.k, p.units);
  const int run = run_of_block(), first = share.first(run), last = share.first(run + 1);
  const uint32_t base = (shared_address(dynamic_shared) + 1023) & ~1023u;
  BatchFlow<kGroup, kN> flow(params, share, base, first, last);
  BatchFinish<kGroup, kN> finish{p, params.norm};
  allow_next();
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      barrier_init(flow.full(i), 1);
      barrier_init(flow.empty(i), kBatchWarps);
    }
    for (int i = 0; i < kBatchWarps * Tile::kSlots; ++i) barrier_init(base + Tile::kLoadedAt + 8 * i, 1);
    if constexpr (Tile::kByWarps) barrier_init(base + Tile::kSquaresBarrierAt, kBatchWarps);
    barrier_init_done();
  } else if (threadIdx.x == kWarp) {  // before the kernel ahead has ended: a division takes time
    const uint32_t others = share.run_of((last - 1) / share.slices * share.slices + share.slices - 1) - run;
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(base + Tile::kOthersAt), "r"(others) : "memory");
  }
  __syncthreads();
  if (p.silu && flow.warp < kBatchWarps / 2) pair_arrive<BatchFinish<kGroup, kN>::kEmpty>(flow.warp);
#pragma unroll 1
  for (int i = 0; i < min(Tile::kSlots, last - first); ++i) flow.ask(i);
  int slice = flow.x_pair / 2;
  wait_previous();
  const bool deferred = Tile::kByWarps && finish.reads_deferred();
  BatchSquares<kGroup, Tile::kByWarps ? kN : 8> squares;
  if (deferred) squares.ask(params);
  if (threadIdx.x == 0)
#pragma unroll 1
    for (int i = 0; i < Tile::kStages - 1; ++i) flow.ask_x(i);
  __syncwarp();
  if (deferred) squares.add(params, base);
  // Sums of two groups; between pieces their registers, which the assembler keeps for them, hold pieces of others.
  float dot[2][kN / 2];
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) dot[0][i] = dot[1][i] = 0.f;
#pragma unroll 1
  for (int unit = first / share.slices, left = last - first; left > 0; ++unit, slice = 0) {
    float sum[kN / 2];
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) sum[i] = 0.f;
    const int slices = kN == 8 && kGroup == 64 ? settled(p.k) / kSliceK : share.slices;  // kept or not, as registers allow
    const int count = min(left, slices - slice);
    left -= count;
    if constexpr (Tile::kByWarps) {
      multiply_by_warps(flow, count, left, sum);
    } else {
      multiply_by_warpgroups<kGroup, kN, kOrdered>(flow, count, left, dot, sum);
      if (flow.lane == 0) barrier_arrive(flow.empty(flow.x_before()));
    }
    flow.park();
    finish(flow.base, unit, slice == 0, count * kSliceK == p.k, dot, sum);
    flow.resume();
  }
}

}  // namespace exllama

// grid by wgmmaBatchLaunch(): blocks that all run at once; block 256, BatchTile::kShared bytes of dynamic shared memory.
#define EXLLAMA_BATCH(GROUP, N, SUFFIX, ORDERED)                                                            \
  extern "C" __global__ void __launch_bounds__(256, exllama::BatchTile<GROUP, N>::kBlocks)                  \
      linear_batch_wgmma_q4_g##GROUP##_t##N##SUFFIX(const __grid_constant__ exllama::TensorBatchParams p) { \
    exllama::linear_batch_wgmma<GROUP, N, ORDERED>(p);                                                      \
  }
#define EXLLAMA_BATCH_ORDERS(GROUP, N) EXLLAMA_BATCH(GROUP, N, , false) EXLLAMA_BATCH(GROUP, N, _ordered, true)
#define EXLLAMA_BATCH_TOKENS(GROUP) \
  EXLLAMA_BATCH(GROUP, 8, , false)  \
  EXLLAMA_BATCH(GROUP, 16, , false) \
  EXLLAMA_BATCH_ORDERS(GROUP, 32)   \
  EXLLAMA_BATCH_ORDERS(GROUP, 64)   \
  EXLLAMA_BATCH_ORDERS(GROUP, 128)
EXLLAMA_BATCH_TOKENS(32)
EXLLAMA_BATCH_TOKENS(64)
EXLLAMA_BATCH_TOKENS(128)

#endif  // EXLLAMA_WGMMA
