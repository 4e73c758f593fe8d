// What all blocks of a chain do, from link to link: the head of linear_chain.cu says how.
#pragma once

#include "linear_chain_attention.cuh"
#include "linear_chain_products.cuh"
#include "linear_chain_results.cuh"
#include "linear_chain_ring.cuh"

namespace exllama {

/// Two copies of `bytes` each, one behind the other, of what may be read again.
__device__ __forceinline__ void copy_bulk_pair(uint8_t* to, const void* first, const void* second, int bytes, uint64_t* full) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(full)), "r"(2 * bytes) : "memory");
  const auto copy = [&](uint8_t* to, const void* from) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)), "l"(from),
                 "r"(bytes), "r"(shared_address(full))
                 : "memory");
  };
  copy(to, first);
  copy(to + bytes, second);
}

/// Has a layer's part of the launch's parameters in the multiprocessor's cache before those want it who would have to wait.
__device__ __forceinline__ void touch(const ChainLayer& layer) {
  const uint64_t* words = reinterpret_cast<const uint64_t*>(&layer);
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(layer) / 8); i += 4) asm volatile("" ::"l"(words[i]));
}

/// Has the copy engine bring all of the block's tiles: of weights and, in front of o, of keys and values.
template <int kBits, int kGroup, typename Attention, typename Params>
__device__ __forceinline__ void chain_copies(const Params& p, const ChainShared<kBits, kGroup>& shared) {
  using L = Layout<kBits, kGroup>;
  constexpr int kFull = L::superblock_bytes(kSuperblock);
  const uint64_t policy = evict_first_policy();
  ChainRingPlace at = {0, 0};
  // When the next stage is empty, and few enough copies are under way: its address.
  const auto next_stage = [&](int flying) {
    barrier_wait(shared.empty + at.stage, at.round & 1 ^ 1);
    const ChainRingPlace landed = at.before(flying, p.stages);
    if (landed.round >= 0) barrier_wait(shared.full + landed.full(), landed.round >> 1 & 1);
    return shared.ring + at.stage * ChainShared<kBits, kGroup>::kStageBytes;
  };
  const auto copy = [&](const uint8_t* from, int bytes) {
    uint8_t* to = next_stage(p.flying);
    copy_bulk(to, from, bytes, shared.full + at.full(), policy);
    at.next(p.stages);
  };
#pragma unroll 1
  for (int link = p.first_link, last = p.first_link + p.links; link < last; ++link) {
    if (link + 1 < p.layers) touch(p.layer[link + 1]);
    if constexpr (Params::kAttends) {
      if (link == 0) wait_previous();  // keys, values, where they are: of launches before, which weights are not
      if (link >= 0)
        Attention::for_each_tile(p, p.layer[link], [&](const __half* keys, const __half* values) {
          uint8_t* to = next_stage(p.flying_tiles);
          copy_bulk_pair(to, keys, values, Attention::kTileBytes, shared.full + at.full());
          at.next(p.stages);
        });
    }
#pragma unroll 1
    for (int linear = first_linear(link); linear < linears_end(p, link); ++linear) {
      const ChainShape& w = p.linears[linear];
      const uint8_t* const* weights = weights_of(layer_of(p, link, linear), linear);
      const ChainShare share(w, linear == kGateUp);
      const size_t tile_bytes = L::tile_bytes(w.k);
      const int superblocks = share.superblocks, last_bytes = static_cast<int>(tile_bytes - size_t(superblocks - 1) * kFull);
      const auto begin_of = [&](int part, int of_pair) {
        const ChainTile tile(w, share.paired, part, of_pair);
        return weights[tile.segment] + size_t(tile.tile) * tile_bytes;
      };
      const int tiles = share.parts << share.paired, pieces = share.pieces << share.paired;
#pragma unroll 1
      for (int i = 0; i < pieces; ++i) {
        const int piece = share.first_piece + (i >> share.paired), part = piece / superblocks, superblock = piece - part * superblocks;
        copy(begin_of(share.left_over + part, i & share.paired) + size_t(superblock) * kFull, superblock + 1 == superblocks ? last_bytes : kFull);
      }
#pragma unroll 1
      for (int t = 0; t < tiles; ++t) {
        const uint8_t* from = begin_of(share.part(t >> share.paired), t & share.paired);
#pragma unroll 1
        for (int left = superblocks - 1; left >= 0; --left, from += kFull) copy(from, left == 0 ? last_bytes : kFull);
      }
    }
  }
}

/// x of down, and of o where it comes in packets.
__device__ __forceinline__ const uint4* packets_of(const ChainParams& p, int) { return p.gated; }
__device__ __forceinline__ const uint4* packets_of(const ChainLayersParams& p, int linear) { return linear == kDown ? p.gated : p.gathered; }

template <int kBits, int kGroup, typename Attention, typename Params>
__device__ __forceinline__ void linear_chain_body(const Params& p, uint8_t* dynamic_shared) {
  const ChainShared<kBits, kGroup> shared(dynamic_shared, p);
  allow_next();
  if (threadIdx.x == 0) {
    for (int s = 0; s < p.stages; ++s) {
      barrier_init(shared.full + s, 1);
      barrier_init(shared.full + kMostChainStages + s, 1);
      barrier_init(shared.empty + s, 2);
    }
    barrier_init_done();
  }
  __syncthreads();
  if (threadIdx.x >= kChainThreads) {
    give_registers<kChainCopyRegisters>();
    if (threadIdx.x == kChainThreads) chain_copies<kBits, kGroup, Attention>(p, shared);
    return;
  }
  take_registers<kChainRegisters>();
  wait_previous();
  {
    const uint4 used = p.epochs[blockIdx.x];
    const uint32_t first = used.x + 1;
    // The parts of o are those of down: who added the first to the residual stream adds the second, in every layer.
    const ChainShape& o = p.linears[kOutput];
    const ChainShare share(o, false);
    if (threadIdx.x < (share.each + (share.block < o.more)) * kTileRows) {
      const int n = share.part(threadIdx.x / kTileRows) * kTileRows + threadIdx.x % kTileRows;
      const float residual = p.residual[n];
      shared.kept[threadIdx.x] = residual;
      if (p.first_link < 0) send_floats(p.sums, n, residual, first + kAfterDown, 0xffffu << (threadIdx.x & 16));
    }
    if constexpr (Params::kAttends)
      if (threadIdx.x == kWarp) *shared.cut = AttentionCut(p, Attention::kTileKeys, p.layer[0].window, max(__ldg(p.position), 0));
    if (threadIdx.x == 0) shared.epoch[0] = first, shared.epoch[1] = used.y + 1, shared.epoch[2] = used.z + 1;
    meet_chain();
  }
  int place = 0;
  const auto later = [&](int place, int count) {
    place += count;
    return place - (rounds_of(p, place) & ~3) * p.stages;  // whole fours of rounds
  };
#pragma unroll 1
  for (int link = p.first_link, last = p.first_link + p.links; link < last; ++link) {
    if constexpr (Params::kAttends)
      if (link >= 0) {
        const uint32_t epoch = shared.epoch[0] + (link - p.first_link) * kChainEpochs, uses = shared.epoch[2] + link;
        place = later(place, Attention::attend(p, shared, p.layer[link], epoch, uses, place));
      }
#pragma unroll 1
    for (int linear = first_linear(link); linear < linears_end(p, link); ++linear) {
      // Nothing that follows from these two is kept in registers from linear to linear.
      const int lane = settled(threadIdx.x % kWarp), warp = settled(threadIdx.x / kWarp);
      const ChainLayer& layer = layer_of(p, link, linear);
      const ChainShape& w = p.linears[linear];
      const ChainShare share(w, linear == kGateUp, settled(blockIdx.x));
      const uint32_t epoch = *shared.epoch + (link - p.first_link) * kChainEpochs;
      // Who has nothing to do here may not wait for x either: nobody would wait for this block before sending the next packets.
      if (share.parts + share.pieces + share.has_divided == 0) continue;
      ChainUnit<kBits, kGroup> unit;
      const auto meanwhile = [&] { take_first(unit, p, shared, share, w.k, place, warp, lane); };
      if (linear == kGateUp || linear == kNext) {
        const bool after_output = linear == kGateUp;
        const __half* norm = after_output ? layer.norm : layer.in_norm;
        stage_normed(p, shared, norm, w.k, epoch + (after_output ? kAfterOutput : kAfterDown), warp, lane, meanwhile);
      } else if (Params::kAttends || linear == kDown) {
        stage_pairs(p, shared, packets_of(p, linear), w.k, shared.epoch[linear == kDown ? 1 : 2] + link, warp, lane, meanwhile);
      } else if constexpr (!Params::kAttends) {
        stage_halves(p, shared, p.attention, w.k, warp, lane, meanwhile);
      }
      meet_chain();
      const uint4 ahead = chain_products(unit, p, shared, share, w.k, place, epoch + kPieces + linear, warp, lane);
      if (gets_pieces(share, warp)) receive_pieces(p, shared, share, ahead, epoch + kPieces + linear);
      chain_results(p, shared, layer, link, linear, epoch, warp, lane);
      place = later(place, share.all());
    }
  }
  if (threadIdx.x == 0) {
    const uint32_t layers = p.links + min(p.first_link, 0);
    const uint32_t gathered = Params::kAttends ? layers : 0;
    p.epochs[blockIdx.x] = make_uint4(shared.epoch[0] - 1 + p.links * kChainEpochs, shared.epoch[1] - 1 + layers, shared.epoch[2] - 1 + gathered, 0);
  }
}

}  // namespace exllama
