// Quantised linears of whole prompts on Hopper, the weights unpacked inside the product: y[m, n] = x w^T with
// 4 bits, no slab of expanded weights in between.
//
// linear_prompt_q4_g{32,64,128}_t{256,240,192,160,128}
//   Strategy   Block tile 128 outputs x kN tokens, k in steps of 64, y^T = w x^T: weights are operand A of the warpgroup
//              products and never leave registers, x is operand B and lies in shared memory. Two warpgroups compute 64
//              outputs each, fp32 in registers over the whole of k; one thread of a third fills a ring with x (copy
//              engine). While 32 k are multiplied and 32 more wait behind them, a warp unpacks those that come 64 k later into
//              the fragments that have become free, and has asked for the codes of two steps after that (16 bytes per lane
//              and step, straight from device memory: its own row tile's, nobody else's). Blocks are persistent; tokens run
//              fastest, so that blocks which run together read the same weights.
//   results    As f16, turned by stmatrix, or f32, in pieces through shared memory, written by the copy engine while the next tile
//              begins. Onto the residual stream it adds them itself: exactly one number to each place in a launch, so
//              that no order of additions is left open. That part of it has been brought to L2 meanwhile.
//   silu       The first warpgroup has 64 rows of gate, the second the same rows of up; each hands the other what it has of
//              half of the tokens.
//   barriers   full[s]: one arrival (the copying thread, which expects kStageBytes) and those bytes, always whole: what lies
//              outside of x is zeros. empty[s]: eight arrivals, lane 0 of each computing warp once per step. Both
//              sides walk the same tiles and steps, so every phase ends; no block waits for another but in a cluster.
//   cut        Where tiles are too few for the card, a cluster of two to four blocks has one tile, each block a part of the k (steps
//              of 128, as even as they go). When all of a cluster have read their rings (one barrier of the cluster), each sends
//              the others its sums of the tokens that they finish, into their rings (st.async, counted by a barrier there whose wait
//              is bounded), and adds what it is sent to its own in the order of k. Not with silu. Clusters run at once by themselves: no circle.
// Bits         Every output is summed over k in steps of 16 in ascending order whatever kN, the grid or the tile; with a cut the sums of
//              its parts are added in ascending order: by the launch's shape and the card, never by timing.
// Layout       quantized.cuh; weights are those of expand_*: fp16(scale * (code - zero))
// Limits       sm_90a (not there elsewhere); k % 128 == 0, n % 8 == 0, 16-byte aligned x, y; any m
// Reference    linear_q4_g*_ref of linear_quantized.cu; the slabs of linear_half.cu
#include "linear_prompt_cut.cuh"

namespace exllama {

#ifdef EXLLAMA_WGMMA

/// The copying thread.
template <int kN>
__device__ __forceinline__ void copy_prompt(const TensorPromptParams& p, PromptRing<kN> ring) {
  const PromptPart part = PromptPart::of(p.linear);
  const int end = 2 * part.end, tiles = prompt_tiles<kN>(p.linear), across = (p.linear.m + kN - 1) / kN;
  for (int tile = first_tile(p.linear); tile < tiles; tile += gridDim.x) {
    const int token0 = tile % across * kN;
    const PromptPlace place = PromptPlace::of<kN>(p.linear, tile);
    const PromptShare share = PromptShare::of<kN>(p.linear, token0, prompt_rank(p.linear));
    for (int step = 2 * part.first; step < end; ++step) {
      barrier_wait(ring.empty(), ring.parity ^ 1);
      barrier_expect(ring.full(), PromptTile<kN>::kStageBytes);
      copy_box(ring.x(), &p.x_map, step * kPromptK, token0, ring.full());
      ring.advance();
      // What the results will be added to, a box per step before the last.
      const int box = 4 * share.end - (end - step);
      if (p.linear.form == 2 && box >= 4 * share.first)
        prefetch_box(&p.y_map[place.linear], place.row0 + 32 * (box % 4), token0 + box / 4 * (PromptTile<kN>::kPiece / 2));
    }
  }
}

/// A warp's row tile, chunk after chunk from its part of k on, through all tiles of its block; behind the last one some other.
template <int kGroup, int kN>
struct PromptFeed {
  const PromptLinear& p;
  const uint8_t* superblock;
  int rest, chunk;  // inputs from the superblock's first on, chunk in it
  int tile, warp, lane;

  __device__ __forceinline__ PromptFeed(const PromptLinear& p, int warp, int lane) : p(p), tile(first_tile(p)), warp(warp), lane(lane) {
    begin_tile();
    const int first = PromptPart::of(p).first * 2, before = first / (kSuperblock / kChunk);  // chunks, superblocks
    superblock += before * Layout<4, kGroup>::superblock_bytes(kSuperblock);
    rest -= before * kSuperblock, chunk = first % (kSuperblock / kChunk);
  }

  __device__ __forceinline__ void begin_tile() {
    const PromptPlace place = PromptPlace::of<kN>(p, tile < prompt_tiles<kN>(p) ? tile : 0);
    const int linear = p.silu ? warp / 4 : place.linear;
    const int row = place.row0 / kTileRows + (p.silu ? warp % 4 : warp);
    const uint8_t* weights = of_linear(linear, p.weights0, p.weights1, p.weights2);
    const int n = of_linear(linear, p.n0, p.n1, p.n2);
    superblock = weights + size_t(min(row, (n + kTileRows - 1) / kTileRows - 1)) * Layout<4, kGroup>::tile_bytes(p.k);
    rest = p.k, chunk = 0;
  }

  __device__ __forceinline__ void next(PackedChunk<kGroup>& packed) {
    const int k = min(kSuperblock, rest);
    packed.load(superblock, k, chunk, lane);
    if (++chunk < k / kChunk) return;
    superblock += Layout<4, kGroup>::superblock_bytes(kSuperblock);
    rest -= k, chunk = 0;
    if (rest > 0) return;
    tile += gridDim.x;
    begin_tile();
  }
};

/// A computing warp. Nothing of what the kernel ahead wrote is touched before wait_previous(); weights are nobody's.
template <int kGroup, int kN>
__device__ __forceinline__ void compute_prompt(const TensorPromptParams& params, PromptRing<kN> ring, uint32_t staging_at, int warp, int lane) {
  const PromptLinear& p = params.linear;
  const int pairs = PromptPart::of(p).count(), tiles = prompt_tiles<kN>(p);
  const QuadTurn quad(lane);
  PromptStaging<kN> staging{staging_at + warp / 4 * 2 * PromptTile<kN>::kPieceBytes, warp / 4, warp % 4, lane};
  PromptFeed<kGroup, kN> feed(p, warp, lane);
  PackedChunk<kGroup> packed[2];
  uint32_t a[2][2][2][4];  // of two chunks, halves, products
  feed.next(packed[0]);
  feed.next(packed[1]);
#pragma unroll
  for (int half = 0; half < 2; ++half) unpack_half(packed[0], half, quad, lane, a[0][half]);
  feed.next(packed[0]);
  wait_previous();
  for (int tile = first_tile(p); tile < tiles; tile += gridDim.x) {
    float sum[kN / 2];  // in here: its registers are needed for results too
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) sum[i] = 0.f;
    uint32_t used = 0;
    for (int pair = 0; pair < pairs; ++pair) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        barrier_wait(ring.full(), ring.parity);
        const uint64_t x = wgmma_operand(ring.x());
        PackedChunk<kGroup>& next = packed[c ^ 1];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          wgmma_begin();
#pragma unroll
          for (int kk = 0; kk < 2; ++kk) wgmma_weights<kN>(sum, a[c][half][kk], x + 4 * half + 2 * kk);
          wgmma_commit();
          wgmma_wait<2>();  // this half of the chunk before has been read: the other one and this one go on meanwhile
          if (half == 0) asm volatile("" : "+r"(next.codes.x), "+r"(next.codes.y)::"memory");
          else asm volatile("" : "+r"(next.codes.z), "+r"(next.codes.w)::"memory");
          unpack_half(next, half, quad, lane, a[c ^ 1][half]);
        }
        if (lane == 0 && pair + c > 0) barrier_arrive(used);
        used = ring.empty();
        ring.advance();
        feed.next(next);
      }
    }
    wgmma_wait<0>();
    wgmma_results(sum);
    if (lane == 0) barrier_arrive(used);
    if (p.cut == 1) {
      store_prompt<kN>(params, tile, staging, sum);
      continue;
    }
    const int thread = warp * kWarp + lane;
    hand_parts<kN>(p, tile % ((p.m + kN - 1) / kN) * kN, ring.stages, ring.stages + PromptTile<kN>::kHandedAt, thread, sum);
    store_parts<kN>(params, tile, ring.stages, staging, thread);
    break;
  }
  if (staging.issues()) store_wait_written();
}

template <int kGroup, int kN>
__device__ __forceinline__ void prompt_linear(const TensorPromptParams& p) {
  using Tile = PromptTile<kN>;
  extern __shared__ uint8_t dynamic_shared[];
  const uint32_t base = (shared_address(dynamic_shared) + 1023) & ~1023u;
  PromptRing<kN> ring;
  ring.stages = base;
  ring.barriers = base + Tile::kBarriersAt;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i, ring.slot = i) {
      barrier_init(ring.full(), 1);
      barrier_init(ring.empty(), 8);
    }
    barrier_init_done();
  } else if (threadIdx.x == 128) {  // one of those who meet the cluster's others, whom this barrier is for
    barrier_init(base + Tile::kHandedAt, 1);
    barrier_init_done();
  }
  ring.slot = 0;
  __syncthreads();
  allow_next();
  if (threadIdx.x < 128) {
    give_registers<40>();
    wait_previous();
    if (threadIdx.x == 0) copy_prompt<kN>(p, ring);
  } else {
    take_registers<232>();
    compute_prompt<kGroup, kN>(p, ring, base + Tile::kStagingAt, threadIdx.x / kWarp - 4, threadIdx.x % kWarp);
  }
}

#endif  // EXLLAMA_WGMMA

}  // namespace exllama

// grid: a block per tile of 128 outputs (64 pairs of them where silu) x N tokens, at most as many as the card has
// multiprocessors; block 384, PromptTile<N>::kShared bytes of dynamic shared memory.
#ifdef EXLLAMA_WGMMA
#define EXLLAMA_PROMPT_BODY(GROUP, N) exllama::prompt_linear<GROUP, N>(p)
#define EXLLAMA_PROMPT(GROUP, N)                                                                        \
  extern "C" __global__ void __launch_bounds__(384, 1) linear_prompt_q4_g##GROUP##_t##N(                \
      const __grid_constant__ exllama::TensorPromptParams p) {                                          \
    EXLLAMA_PROMPT_BODY(GROUP, N);                                                                      \
  }
#define EXLLAMA_PROMPT_TOKENS(GROUP) EXLLAMA_PROMPT(GROUP, 256) EXLLAMA_PROMPT(GROUP, 240) EXLLAMA_PROMPT(GROUP, 192) EXLLAMA_PROMPT(GROUP, 160) EXLLAMA_PROMPT(GROUP, 128)
EXLLAMA_PROMPT_TOKENS(32)
EXLLAMA_PROMPT_TOKENS(64)
EXLLAMA_PROMPT_TOKENS(128)

#endif  // EXLLAMA_WGMMA
