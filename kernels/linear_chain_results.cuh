// What linear_chain.cu makes of a linear's sums: results, to all blocks.
#pragma once

#include "linear_chain_input.cuh"

namespace exllama {

/// The sum of `count` numbers, one in each row of shared memory.
__device__ __forceinline__ float row_sum(const float* from, int count) {
  constexpr int kBatch = 4;
  float sum = 0.f;
#pragma unroll 1
  for (; count > 0; count -= kBatch, from += kBatch * kTileRows) {
    float v[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) v[b] = b < count ? from[b * kTileRows] : 0.f;
#pragma unroll
    for (int b = 0; b < kBatch; ++b) sum += v[b];
  }
  return sum;
}

/// Has all sums of a part left over in shared memory, where and as those of one more part would be, for when the block has met. `two` is what a
/// look at the first two has brought; since they are what blocks begin with, it has mostly brought them.
template <typename Shared>
__device__ __forceinline__ void receive_pieces(const ChainBuffers& p, const Shared& shared, const ChainShare& share, uint4 two, uint32_t epoch) {
  const uint64_t* const from = place_of_pieces(p, share);
  const int units = 2 * share.superblocks, all = pieces_of(share);
  float* const to = shared.partial + 2 * share.whole() * kTileRows;
#pragma unroll 1
  for (int i = first_piece_of_thread(); i < all; i += kChainThreads) {
    if (i != first_piece_of_thread()) two = look(from + i);
#pragma unroll 1
    for (unsigned polls = 0; two.y != epoch || two.w != epoch; ++polls) {
      if (polls > kMostPolls) give_up();
      two = look(from + i);
    }
    // Gate's and up's take turns there.
    const int tile = i / kTileRows, unit = tile >> share.paired, of_pair = tile & share.paired;
    *reinterpret_cast<float2*>(to + (of_pair * units + unit) * kTileRows + i % kTileRows) = make_float2(__uint_as_float(two.x), __uint_as_float(two.z));
  }
}

__device__ __forceinline__ float bias_of(const __half* bias, int n) { return bias == nullptr ? 0.f : __half2float(__ldg(bias + n)); }

/// What becomes of the sums of a link's linear, which are in shared memory when the block has met. `layer` is the one that it is of, `epoch` the link's
/// first. A part is a warp's, of the last warps first, which are sooner through with products; its halves have the rows of gate and of up, or
/// the first and the second half of the sums of all rows. All blocks wait for what is done after the meeting: so what can be is done before it.
template <typename Params, typename Shared>
__device__ __forceinline__ void chain_results(const Params& p, const Shared& shared, const ChainLayer& layer, int link, int linear,
                                              uint32_t epoch, int warp, int lane) {
  const ChainShape& w = p.linears[linear];
  const bool paired = linear == kGateUp, to_residual = linear == kOutput || linear == kDown;
  const ChainShare share(w, paired, settled(blockIdx.x));  // nothing of it is kept in registers while there are products
  const int row = lane % kTileRows, upper = lane / kTileRows, all = share.parts + share.has_divided;
  const int count = share.superblocks << paired;  // numbers of a half warp's rows
  const bool goes_on = linear != kDown || link + 1 < p.layers;
  int t = kChainWarps - 1 - warp;
  const float* from = nullptr;
  float scale = 1.f, bias = 0.f, kept = 0.f;
  int segment = 0, n = 0, part = 0;
  const auto prepare = [&] {
    part = share.part(t);
    const ChainTile place(w, paired, part, upper);
    segment = place.segment, n = place.tile * kTileRows + row;
    from = shared.partial + (2 * (t << paired) * share.superblocks + upper * count) * kTileRows + row;
    if (paired || !upper) bias = bias_of(biases_of(layer, linear)[segment], n);
    if (to_residual) kept = shared.kept[t * kTileRows + row];
  };
  if (t < all) {
    if (!to_residual) scale = norm_factor(shared, w.k, p.eps);
    prepare();
  }
  const uint32_t mark = linear == kGateUp ? shared.epoch[1] + link : epoch + (linear == kOutput ? kAfterOutput : linear == kDown ? kAfterDown : kHeads);
  meet_chain();
#pragma unroll 1
  while (t < all) {
    const float own = fmaf(row_sum(from, count), scale, bias);
    const float other = __shfl_xor_sync(0xffffffffu, own, kTileRows);
    if (to_residual) {
      kept += own + other;
      if (goes_on) send_floats(p.sums, n, kept, mark, 0xffffffffu, upper == 0);
      if (upper == 0) {
        shared.kept[t * kTileRows + row] = kept;
        if (linear == kDown && link + 1 == p.first_link + p.links) p.residual[n] = kept;
      }
    } else if (paired) {
      const float gate = upper ? other : own, up = upper ? own : other, y = up * __fdividef(gate, 1.f + __expf(-gate));
      const uint32_t pair = half_pair(y, __shfl_xor_sync(0xffffffffu, y, 1));
      const auto further = [&](int lanes) { return __shfl_down_sync(0xffffffffu, pair, lanes); };
      const uint4 eight = make_uint4(pair, further(2), further(4), further(6));
      send(p.gated + n / 8, HalfPackets{mark}.marked(eight), lane % 8 == 0 && !upper);
    } else {
      const float y = own + other;
      if constexpr (Params::kAttends) {
        const uint32_t pair = half_pair(y, __shfl_xor_sync(0xffffffffu, y, 1));
        send(p.heads + (part * kTileRows + row) / 2, pair, mark, lane % 2 == 0 && !upper);
      } else if (!upper) {
        (segment == 0 ? p.y0 : segment == 1 ? p.y1 : p.y2)[n] = __float2half_rn(y);
      }
    }
    t += kChainWarps;
    if (t < all) prepare();
  }
}

}  // namespace exllama
