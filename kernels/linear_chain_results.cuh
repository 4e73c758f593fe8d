// What linear_chain.cu makes of a linear's sums: results to all blocks, pieces to the block whose part they are of.
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
  const int row = threadIdx.x % kTileRows, whole = share.whole();
  // Somebody waits for pieces: they come first.
#pragma unroll 1
  for (int i = threadIdx.x; i < (share.pieces << share.paired) * kTileRows; i += kChainThreads) {
    const float sum = row_sum(shared.partial + 2 * (whole + i / kTileRows) * kTileRows + row, kTileRows, 2);
    send(p.pieces + (share.first_piece << share.paired) * kTileRows + i, __float_as_uint(sum * scale), epoch + kPieces + linear);
  }
  // A half warp has the rows of a tile: the sums of `count` numbers `step` apart; up's lie behind gate's.
  const auto result = [&](int t, const float* from, int step, int count, float scale) {
    const int part = share.part(t);
    const float first = row_sum(from, step, count) * scale;
    if (linear == kGateUp) {
      const int n = part * kTileRows + row;
      const float second = row_sum(from + (step > kTileRows ? kTileRows : count * kTileRows), step, count) * scale;
      const float gate = first + bias_of(biases[0], n), up = second + bias_of(biases[1], n), y = up * (gate / (1.f + __expf(-gate)));
      const float other = __shfl_xor_sync(0xffffu << (lane & 16), y, 1);
      if (row % 2 == 0) send(p.gated + n / 2, half_pair(y, other), epoch + kGated);
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
      if (linear == kOutput || link + 1 < p.layers) send(p.sums + n, __float_as_uint(kept), epoch + (linear == kOutput ? kAfterOutput : kAfterDown));
      if (linear == kDown && link + 1 == p.first_link + p.links) p.residual[n] = kept;
    }
  };
  const int count = 2 * share.superblocks;
#pragma unroll 1
  for (int t = threadIdx.x / kTileRows; t < share.parts; t += kChainThreads / kTileRows)
    result(t, shared.partial + (t << share.paired) * count * kTileRows + row, kTileRows, count, scale);
  if (share.has_divided && threadIdx.x >= kChainThreads / 2) {
    float* pieces = shared.partial + 2 * share.all() * kTileRows;
    const int parts = share.superblocks << share.paired;
    receive_pieces(pieces, p.pieces + share.block * parts * kTileRows, parts, epoch + kPieces + linear);
    // Gate's and up's take turns.
    if (threadIdx.x >= kChainThreads - kTileRows) result(share.each, pieces + row, kTileRows << share.paired, share.superblocks, 1.f);
  }
}

}  // namespace exllama
