// What 2 to 8 tokens go through between two attentions, in one launch: o, gate and up, down, and the next layer's q, k, v, each by all blocks, meeting in
// between, as one token does in linear_chain.cu.
//
// Strategy   As there: a block per multiprocessor, a ring of superblocks that a warp fills straight through from linear to
//            linear, packets between blocks, products of bytes. What differs is what eight tokens cost:
//            x is f16, eight k of a token in a packet. Norms are put off (deferred_norm.cuh), so who adds to the residual
//            stream sends half as much as its numbers are, and squares beside it. Each block makes two digits of it, a
//            span by a warp, kPartK inputs at a time.
//            The ring has the first superblocks of all the block's tiles, then the second ones: a warp takes its quarter
//            of x into registers once for all tiles. Its sums of a tile go on from superblock to superblock in shared
//            memory, and are added at the end in the order of quarters.
//            Row tiles are dealt out whole. Of o and down a block would have two, and make digits of all k for them: so
//            some blocks have the same tiles, each a part of their k, and send sums to the one of them that makes the
//            results (7B, us of a link on an H200: 53.9 undivided, 50.4 with two, 47.1 with four, when that was measured).
// Registers  Nothing may be spilled: in the little cache that is left beside the ring it would take as long as memory (48 us
//            for 44). So uses are kept in shared memory, and x that is on its way is parked there, span after span.
// Tokens     There are always eight: those that are not there begin as zeros, and nobody reads what becomes of them (behind a norm that is
//            no number); but their packets are sent, whose marks would tell no more than the last use from the next.
// Carried    What x carries is told by one block, with the squares: blocks that had nothing to do with the norm before
//            need it, too.
// Again      A buffer of packets is written again by who has heard, by itself or from those whose sums it has added, of all that read it: of normed,
//            squares and carried by way of gated, of which a block has its own part of k only, so not before pieces have come.
// Rounds     A warp comes to every eighth superblock at least, or the block has met in between: see linear_chain.cu.
// Limits     in the image for 9.0 alone; 4 bits, groups of 128, every k a multiple of 128, hidden <= 8192 and not more than
//            outputs of gate, all outputs multiples of 16, at most 32 row tiles to a block; inputs in their own order; where
//            k is divided, gate and up for every block; shared memory by chainRowsLaunch() in chain-rows-launch.ts
// Reference  the same linears by linear_batch_wgmma.cu, one launch each
#include "registers.cuh"
#ifdef EXLLAMA_WGMMA
#include "chain_rows_products.cuh"
#include "chain_rows_results.cuh"
#include "linear_chain_ring.cuh"

namespace exllama {

__device__ __forceinline__ int linears_end(const ChainRowsParams& p) { return p.first_link + 1 < p.layers ? kChainLinears : kNext; }

/// Has the copy engine bring all of the block's superblocks. A warp, of which each lane knows where one tile lies: what is done for a copy must take less
/// time than a copy.
__device__ __forceinline__ void rows_copies(const ChainRowsParams& p, const ChainRowsShared& shared, int lane) {
  using L = Layout<4, 128>;
  constexpr int kFull = L::superblock_bytes(kSuperblock);
  const uint64_t policy = evict_first_policy();
  ChainRingPlace at = {0, 0};
#pragma unroll 1
  for (int linear = first_linear(p.first_link); linear < linears_end(p); ++linear) {
    const ChainShape& w = p.linears[linear];
    const RowsShare share(p, linear);
    const int tiles = share.tiles();
    const ChainTile tile(w, share.paired, share.part(lane >> share.paired), lane & share.paired);
    const uint8_t* const weights = weights_of(layer_of(p, p.first_link, linear), linear)[tile.segment];
    const uint8_t* from = weights + size_t(tile.tile) * L::tile_bytes(w.k) + share.first / kSuperblock * kFull;
#pragma unroll 1
    for (int left = share.k; left > 0; left -= kSuperblock, from += kFull) {
      const int bytes = L::superblock_bytes(min(kSuperblock, left));
#pragma unroll 1
      for (int t = 0; t < tiles; ++t) {
        barrier_wait(shared.empty + at.stage, at.round & 1 ^ 1);
        const ChainRingPlace landed = at.before(p.flying, p.stages);
        if (landed.round >= 0) barrier_wait(shared.full + landed.full(), landed.round >> 1 & 1);
        if (lane == t) copy_bulk(shared.ring + at.stage * ChainRowsShared::kStageBytes, from, bytes, shared.full + at.full(), policy);
        at.next(p.stages);
      }
    }
  }
}

/// The block's rows of the residual stream, which it keeps; and what x carries at first.
__device__ __forceinline__ void keep_rows(const ChainRowsParams& p, const ChainRowsShared& shared, uint32_t normed, int warp, int lane) {
  const ChainShape& w = p.linears[kOutput];
  const RowsShare share(p, kOutput);
  const int g = lane / 4, token = lane % 4 * 2;
  const float loaded = lane % kChainRows < p.m ? __ldcg(p.carried + lane % kChainRows) : 0.f;
#pragma unroll 1
  for (int own = warp, t = (own << share.bits) + share.split; t < share.parts; own += kChainWarps, t += kChainWarps << share.bits) {
    const int part = share.part(t), n = part * kTileRows + g;
    const float* const from = p.residual + size_t(token) * w.n0 + n;
    float4 r = make_float4(0.f, 0.f, 0.f, 0.f);
    if (token < p.m) r.x = __ldcg(from), r.z = __ldcg(from + 8);
    if (token + 1 < p.m) r.y = __ldcg(from + w.n0), r.w = __ldcg(from + w.n0 + 8);
    shared.kept[own * kWarp + lane] = r;
    if (p.first_link < 0) {
      const float2 factor = of_tokens(as_sent(loaded) * kDeferredRoom, lane);
      send_normed(p, r, factor, weights_of_rows(p.layer[0].in_norm + n), part, normed, shared.sums + own * kWarp, lane);
    }
  }
  const float carried = as_sent(loaded);
  if (threadIdx.x < kChainRows) shared.carried[lane] = carried;
  if (p.first_link < 0 && blockIdx.x == 0 && warp == 0) send_carried(p, carried, w.n0, normed, lane);
}

__device__ __forceinline__ void linear_chain_rows(const ChainRowsParams& p, uint8_t* dynamic_shared) {
  const ChainRowsShared shared(dynamic_shared, p);
  allow_next();
  if (threadIdx.x == 0) {
    for (int s = 0; s < p.stages; ++s) {
      barrier_init(shared.full + s, 1);
      barrier_init(shared.full + kMostChainStages + s, 1);
      barrier_init(shared.empty + s, kRowsWays);
    }
    barrier_init_done();
  }
  __syncthreads();
  if (threadIdx.x >= kChainThreads) {
    give_registers<kChainCopyRegisters>();
    if (threadIdx.x < kChainThreads + kWarp) rows_copies(p, shared, threadIdx.x - kChainThreads);
    return;
  }
  take_registers<kChainRegisters>();
  wait_previous();
  if (threadIdx.x % kWarp == 0) shared.used[threadIdx.x / kWarp] = __ldcg(p.epochs + blockIdx.x);
  __syncwarp();
  int place = 0;
#pragma unroll 1
  for (int linear = first_linear(p.first_link); linear < linears_end(p); ++linear) {
    const RowsShare share(p, linear, settled(blockIdx.x));
    const int tiles = share.tiles();
    // Who has nothing to do here may not wait for x either: nobody would wait for this block before sending the next packets.
    if (tiles == 0) continue;
    const uint32_t x = shared_address(shared.x);
#pragma unroll 1
    for (int done = 0; done < share.k; done += kPartK) {
      const int lane = settled(threadIdx.x % kWarp), warp = settled(threadIdx.x / kWarp);
      const int first = share.first + done, k = min(kPartK, share.k - done);
      const bool is_first = linear == first_linear(p.first_link) && done == 0, reads_normed = linear == kGateUp || linear == kNext;
      const int inputs = p.linears[linear].k;
      const RowsUses uses(shared.used[warp], p.first_link, linear);
      RowsSource source = {reads_normed ? p.normed : p.gated, kChainRows, 1, p.m, uses.read, true};
      if (linear == kOutput) source = {reinterpret_cast<const uint4*>(p.attention), 1, inputs / 8, p.m, 0, false};
      if (is_first) keep_rows(p, shared, uses.normed, warp, lane);
      RowsSpan low, high;
      low.take(source, first, k, warp, lane), high.take(source, first, k, kChainWarps + warp, lane);
      if (done > 0) {
        meet_chain();
      } else if (reads_normed) {
        RowsSquares squares;
        const int facts = (inputs / kTileRows + 1) * 2;
        squares.take(p.squares, facts);
        squares.place(shared, p.squares, facts, uses.read, warp, lane);
      }
      if (source.in_packets) {
        const auto any_missing = [&] {
          const bool one = low.look_again(source, first, k, warp, lane), other = high.look_again(source, first, k, kChainWarps + warp, lane);
          return __any_sync(0xffffffffu, one || other);
        };
#pragma unroll 1
        for (unsigned polls = 0; any_missing(); ++polls) {
          if (polls > kMostPolls) give_up();
          if (polls > 0) __nanosleep(kPause);
        }
      }
      const int spans = k / kSpan > kChainWarps + warp ? 2 : k / kSpan > warp;
      if (spans > 1) high.park(x, kChainWarps + warp, lane);
#pragma unroll 1
      for (int i = 0; i < spans; ++i) {
        if (i > 0) low.unpark(x, kChainWarps + warp, lane);
        low.place(source.in_packets, x, i * kChainWarps + warp, lane);
      }
      RowsUnit unit;
      take_first(unit, p, shared, tiles, k, place, settled(threadIdx.x / kWarp), settled(threadIdx.x % kWarp));
      meet_chain();
      rows_products(unit, p, shared, tiles, x, k, done == 0, place, settled(threadIdx.x / kWarp), settled(threadIdx.x % kWarp));
      place += tiles * ((k + kSuperblock - 1) / kSuperblock);
    }
    rows_results(p, shared, linear, settled(threadIdx.x / kWarp), settled(threadIdx.x % kWarp));
  }
  if (threadIdx.x == 0) {
    const uint4 used = shared.used[0];
    const bool is_link = p.first_link >= 0;
    p.epochs[blockIdx.x] = make_uint4(used.x + (is_link ? p.layers : 1), used.y + is_link, used.z + 2 * is_link, 0);
  }
}

}  // namespace exllama
#else
#include "chain_rows.cuh"
#endif

// Grid, stages and dynamic shared memory by chainRowsLaunch(), cooperative.
extern "C" __global__ void __launch_bounds__(exllama::kChainBlock, 1)
    linear_chain_rows_q4_g128(const __grid_constant__ exllama::ChainRowsParams p) {
#ifdef EXLLAMA_WGMMA
  extern __shared__ __align__(128) uint8_t dynamic_shared[];
  exllama::linear_chain_rows(p, dynamic_shared);
#endif
}
