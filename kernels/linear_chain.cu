// What one token goes through between two attentions, in one launch: o, gate and up, down, and the
// next layer's q, k, v, each by all blocks, meeting in between.
//
//   r += o(attention)        h = silu(gate(norm(r))) * up(norm(r))
//   r += down(h)             q, k, v = next(next_norm(r))
//
// Strategy   One block per multiprocessor, all of them running at once (a cooperative launch), so that
//            blocks may wait for each other (linear_chain_input.cuh). A warp does nothing but have the
//            copy engine bring superblock after superblock of the block's row tiles into a ring,
//            straight through from one linear to the next: memory works while blocks meet, and fills
//            the ring while attention ahead runs. Of its copies only as many are under way at a time as
//            keep memory busy: every other load of a multiprocessor, x above all, waits behind those it
//            has asked for before. Sixteen warps take halves of superblocks, independent of each other
//            until the end of a linear (linear_chain_products.cuh); then their sums are added, in the
//            order of k, whichever warp made them. RMSNorm's common factor is left to the results, so
//            that a block does not meet for it.
//            A warp comes to every eighth superblock only, and copies may arrive in another order than
//            they were asked for: with one barrier for each stage it could take the round before last
//            for its own. So even and odd rounds have barriers of their own: when a warp waits for
//            superblock s it has had s - 8 or what lies before this linear, hence s - stages has been
//            asked for, hence s - 2 * stages has been there.
//            Row tiles are dealt out whole; where that leaves too much to some blocks, the superblocks of
//            those left over are dealt out to all, who send their sums to the block that has the tile.
// Layout     quantized.cuh
// Limits     one token; in the image for 9.0 alone, where it has been measured; every k a multiple of 128,
//            hidden <= 8192, all outputs multiples of 16; inputs in their own order; a linear of no inputs
//            may stand for one that is not there; shared memory by chainLaunch() in
//            src/backend/cuda/chain-launch.ts; all launches that share packets have the same grid
// Reference  the same linears by linear_stream.cu, one launch each
#include "linear_chain.cuh"
#include "registers.cuh"

#ifdef EXLLAMA_WGMMA

#include "linear_chain_products.cuh"
#include "linear_chain_results.cuh"

namespace exllama {

/// A copy's stage of the ring, and how often the ring has gone round.
struct ChainRingPlace {
  int stage, round;
  __device__ __forceinline__ void next(int stages) {
    if (++stage == stages) stage = 0, ++round;
  }
  /// `count` copies earlier, fewer than there are stages; before the first copy the round is negative.
  __device__ __forceinline__ ChainRingPlace before(int count, int stages) const {
    return stage >= count ? ChainRingPlace{stage - count, round} : ChainRingPlace{stage - count + stages, round - 1};
  }
  __device__ __forceinline__ unsigned full() const { return (round & 1) * kMostChainStages + stage; }
};

/// Has the copy engine bring all of the block's tiles.
template <int kBits, int kGroup>
__device__ __forceinline__ void chain_copies(const ChainParams& p, const ChainShared<kBits, kGroup>& shared) {
  using L = Layout<kBits, kGroup>;
  constexpr int kFull = L::superblock_bytes(kSuperblock);
  const uint64_t policy = evict_first_policy();
  ChainRingPlace at = {0, 0};
#pragma unroll 1
  for (int linear = 0; linear < p.count; ++linear) {
    const ChainWeights& w = p.linears[linear];
    const ChainShare share(w, linear == kGateUp);
    const size_t tile_bytes = L::tile_bytes(w.k);
    const int superblocks = share.superblocks, last_bytes = static_cast<int>(tile_bytes - size_t(superblocks - 1) * kFull);
    const auto begin_of = [&](int part, int of_pair) {
      const ChainTile tile(w, share.paired, part, of_pair);
      return tile.pick(w.weights0, w.weights1, w.weights2) + size_t(tile.tile) * tile_bytes;
    };
    const auto copy = [&](const uint8_t* from, int bytes) {
      barrier_wait(shared.empty + at.stage, at.round & 1 ^ 1);
      const ChainRingPlace landed = at.before(p.flying, p.stages);
      if (landed.round >= 0) barrier_wait(shared.full + landed.full(), landed.round >> 1 & 1);
      copy_bulk(shared.ring + at.stage * ChainShared<kBits, kGroup>::kStageBytes, from, bytes, shared.full + at.full(), policy);
      at.next(p.stages);
    };
    const int tiles = share.parts << share.paired, pieces = share.pieces << share.paired;
#pragma unroll 1
    for (int t = 0; t < tiles; ++t) {
      const uint8_t* from = begin_of(share.part(t >> share.paired), t & share.paired);
#pragma unroll 1
      for (int left = superblocks - 1; left >= 0; --left, from += kFull) copy(from, left == 0 ? last_bytes : kFull);
    }
#pragma unroll 1
    for (int i = 0; i < pieces; ++i) {
      const int piece = share.first_piece + (i >> share.paired), part = piece / superblocks, superblock = piece - part * superblocks;
      copy(begin_of(share.left_over + part, i & share.paired) + size_t(superblock) * kFull, superblock + 1 == superblocks ? last_bytes : kFull);
    }
  }
}

template <int kBits, int kGroup>
__device__ __forceinline__ void linear_chain_body(const ChainParams& p, uint8_t* dynamic_shared) {
  const ChainShared<kBits, kGroup> shared(dynamic_shared, p);
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / kWarp, 0), lane = threadIdx.x % kWarp;
  allow_next();
  if (threadIdx.x < kChainZeroBytes / 4) reinterpret_cast<uint32_t*>(dynamic_shared + kChainHeadBytes - kChainZeroBytes)[threadIdx.x] = 0;
  if (threadIdx.x == 0) {
    for (int s = 0; s < p.stages; ++s) {
      barrier_init(shared.full + s, 1);
      barrier_init(shared.full + kMostChainStages + s, 1);
      barrier_init(shared.empty + s, 2);
    }
    barrier_init_done();
  }
  __syncthreads();
  if (warp == kChainWarps) {
    if (lane != 0) return;
    chain_copies(p, shared);
    return;
  }
  if (threadIdx.x == kWarp)
    for (int linear = 0, base = 0; linear < p.count; ++linear) {
      shared.bases[linear] = base;
      base += ChainShare(p.linears[linear], linear == kGateUp).all();
    }
  wait_previous();
  const uint32_t launches = p.epochs[blockIdx.x];
  {
    // The parts of o are those of down: who added the first to the residual stream adds the second.
    const ChainWeights& o = p.linears[kOutput];
    const ChainShare share(o, false);
    const bool mine = threadIdx.x < (share.each + (share.block < o.more)) * kTileRows;
    const float residual = mine ? p.residual[share.part(threadIdx.x / kTileRows) * kTileRows + threadIdx.x % kTileRows] : 0.f;
    stage_attention(p, shared, warp, lane);
    if (mine) shared.kept[threadIdx.x] = residual;
    if (threadIdx.x == 0) *shared.epoch = kChainEpochs * launches + 1;
  }
#pragma unroll 1
  for (int linear = 0; linear < p.count; ++linear) {
    const int lane = settled(threadIdx.x % kWarp);  // nothing that follows from it is kept in registers from linear to linear
    const ChainWeights& w = p.linears[linear];
    const ChainShare share(w, linear == kGateUp);
    // Who has nothing to do here may not wait for x either: nobody would wait for this block before sending the next packets.
    if (linear != kOutput && share.parts + share.pieces + share.has_divided == 0) continue;
    if (linear == kGateUp) stage_normed(p, shared, p.norm, w.k, *shared.epoch + kAfterOutput, warp, lane);
    else if (linear == kDown) stage_gated(p, shared, *shared.epoch + kGated, warp, lane);
    else if (linear == kNext) stage_normed(p, shared, p.next_norm, w.k, *shared.epoch + kAfterDown, warp, lane);
    meet_chain();
    chain_products<kBits, kGroup>(p, shared, share, w.k, shared.bases[linear], warp, lane);
    chain_results(p, shared, linear);
  }
  if (threadIdx.x == 0) p.epochs[blockIdx.x] = *shared.epoch / kChainEpochs + 1;
}

}  // namespace exllama

#endif  // EXLLAMA_WGMMA

// grid, stages and dynamic shared memory by chainLaunch(), cooperative.
extern "C" __global__ void __launch_bounds__(exllama::kChainThreads + exllama::kWarp, 1)
    linear_chain_q4_g128(const __grid_constant__ exllama::ChainParams p) {
#ifdef EXLLAMA_WGMMA
  extern __shared__ __align__(128) uint8_t dynamic_shared[];
  exllama::linear_chain_body<4, 128>(p, dynamic_shared);
#endif
}
