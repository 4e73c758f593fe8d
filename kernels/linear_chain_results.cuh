// What linear_chain.cu makes of a linear's sums: results, to all blocks.
#pragma once

#include "linear_chain_input.cuh"

namespace exllama {

/// The sum of `count` numbers `step` apart.
__device__ __forceinline__ float row_sum(const float* from, int step, int count) {
  constexpr int kBatch = 8;
  float sum = 0.f;
#pragma unroll 1
  for (int base = 0; base < count; base += kBatch) {
    float v[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) v[b] = base + b < count ? from[(base + b) * step] : 0.f;
#pragma unroll
    for (int b = 0; b < kBatch; ++b) sum += v[b];
  }
  return sum;
}

/// Packets that blocks send of a part left over, into `to`: [count][kTileRows]. The last half of the warps take part, and meet.
__device__ __forceinline__ void receive_pieces(float* to, const uint64_t* from, int count, uint32_t epoch) {
  constexpr int kThreads = kChainThreads / 2;
#pragma unroll 1
  for (int i = threadIdx.x - kThreads; i < count * kTileRows; i += kThreads) {
    uint64_t packet;
    unsigned polls = 0;
#pragma unroll 1
    do {
      asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(packet) : "l"(from + i) : "memory");
      if (++polls > kMostPolls) give_up();
    } while (static_cast<uint32_t>(packet >> 32) != epoch);
    to[i] = __uint_as_float(static_cast<uint32_t>(packet));
  }
  asm volatile("bar.sync 2, %0;" ::"n"(kThreads) : "memory");
}

__device__ __forceinline__ float bias_of(const __half* bias, int n) { return bias == nullptr ? 0.f : __half2float(__ldg(bias + n)); }

/// What becomes of the sums of a link's linear, which are in shared memory. `layer` is the one that it is of, `epoch` the link's first.
template <typename Params, typename Shared>
__device__ __forceinline__ void chain_results(const Params& p, const Shared& shared, const ChainLayer& layer, int link, int linear,
                                              uint32_t epoch) {
  const int lane = settled(threadIdx.x % kWarp);
  const ChainShape& w = p.linears[linear];
  const ChainShare share(w, linear == kGateUp, settled(blockIdx.x));
  const __half* const* biases = biases_of(layer, linear);
  const bool normed = linear == kGateUp || linear == kNext;
  const float scale = normed ? norm_factor(shared, w.k, p.eps) : 1.f;
  const int row = threadIdx.x % kTileRows;
  // A half warp has the rows of a tile: the sums of numbers `step` apart; up's lie behind gate's.
  const int count = 2 * share.superblocks;
  const auto result = [&](int t, const float* from, int step) {
    const int part = share.part(t);
    const float first = row_sum(from, step, count) * scale;
    if (linear == kGateUp) {
      const int n = part * kTileRows + row;
      const float second = row_sum(from + (step > kTileRows ? kTileRows : count * kTileRows), step, count) * scale;
      const float gate = first + bias_of(biases[0], n), up = second + bias_of(biases[1], n), y = up * __fdividef(gate, 1.f + __expf(-gate));
      const float other = __shfl_xor_sync(0xffffu << (lane & 16), y, 1);
      const uint32_t pair = half_pair(y, other), half_warp = 0xffffu << (lane & 16);
      const uint4 eight = make_uint4(pair, __shfl_down_sync(half_warp, pair, 2), __shfl_down_sync(half_warp, pair, 4), __shfl_down_sync(half_warp, pair, 6));
      if (row % 8 == 0) send(p.gated + n / 8, HalfPackets{shared.epoch[1] + link}.marked(eight));
    } else if (linear == kNext) {
      const ChainTile place(w, false, part, 0);
      const int n = place.tile * kTileRows + row;
      const float y = first + bias_of(biases[place.segment], n);
      if constexpr (Params::kAttends) {
        const float other = __shfl_xor_sync(0xffffu << (lane & 16), y, 1);
        if (row % 2 == 0) send(p.heads + (part * kTileRows + row) / 2, half_pair(y, other), epoch + kHeads);
      } else {
        (place.segment == 0 ? p.y0 : place.segment == 1 ? p.y1 : p.y2)[n] = __float2half_rn(y);
      }
    } else {
      const int n = part * kTileRows + row;
      float& kept = shared.kept[t * kTileRows + row];
      kept += first + bias_of(biases[0], n);
      if (linear == kOutput || link + 1 < p.layers) send_floats(p.sums, n, kept, epoch + (linear == kOutput ? kAfterOutput : kAfterDown), lane);
      if (linear == kDown && link + 1 == p.first_link + p.links) p.residual[n] = kept;
    }
  };
#pragma unroll 1
  for (int t = threadIdx.x / kTileRows; t < share.parts; t += kChainThreads / kTileRows)
    result(t, shared.partial + (t << share.paired) * count * kTileRows + row, kTileRows);
  if (share.has_divided && threadIdx.x >= kChainThreads / 2) {
    float* pieces = shared.partial + 2 * share.whole() * kTileRows;
    const int sums = count << share.paired;
    receive_pieces(pieces, p.pieces + share.block * sums * kTileRows, sums, epoch + kPieces + linear);
    // Gate's and up's take turns.
    if (threadIdx.x >= kChainThreads - kTileRows) result(share.each, pieces + row, kTileRows << share.paired);
  }
}

}  // namespace exllama
