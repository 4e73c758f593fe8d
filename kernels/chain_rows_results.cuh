// What linear_chain_rows.cu makes of a linear's sums: results, to all blocks. A row tile, or a pair of gate's and up's, is a warp's: lane 4 g + t has rows g
// and g + 8 of tokens 2 t and 2 t + 1.
#pragma once

#include "chain_rows_input.cuh"

namespace exllama {

/// Two numbers of a lane's tokens 2 t and 2 t + 1, of what lane i has of token i % kChainRows.
__device__ __forceinline__ float2 of_tokens(float of_lane, int lane) {
  return make_float2(__shfl_sync(0xffffffffu, of_lane, lane % 4 * 2), __shfl_sync(0xffffffffu, of_lane, lane % 4 * 2 + 1));
}

/// A tile's sums of all ways, in their order.
__device__ __forceinline__ float4 tile_sums(const float4* from, int ways) {
  float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 1
  for (; ways > 0; ways -= kRowsWays, from += kRowsWays * kWarp) {
    float4 v[kRowsWays];
#pragma unroll
    for (int w = 0; w < kRowsWays; ++w) v[w] = from[w * kWarp];
#pragma unroll
    for (int w = 0; w < kRowsWays; ++w) sum.x += v[w].x, sum.y += v[w].y, sum.z += v[w].z, sum.w += v[w].w;
  }
  return sum;
}

/// A lane's four results, exchanged by way of `place` in shared memory, which is the warp's: lanes 0 to 15 get eight outputs, the first or (from lane 8 on) the
/// second, of token lane % 8.
__device__ __forceinline__ uint4 eight_outputs(const float4& v, __half* place, int lane) {
  const int g = lane / 4, t = lane % 4;
  __half* const to = place + 2 * t * kTileRows + g;
  to[0] = __float2half_rn(v.x), to[kTileRows] = __float2half_rn(v.y);
  to[8] = __float2half_rn(v.z), to[kTileRows + 8] = __float2half_rn(v.w);
  __syncwarp();
  return reinterpret_cast<const uint4*>(place)[lane % 8 * 2 + lane / 8 % 2];
}

/// Sends x of the norm that follows of a row tile of the residual stream, and its squares. `factor`: of tokens 2 t and 2 t + 1; `weight`: of rows g and g + 8.
/// `place`: kRowsSumBytes of shared memory that are the warp's.
__device__ __forceinline__ void send_normed(const ChainRowsParams& p, const float4& r, float2 factor, float2 weight, int tile, uint32_t uses, float4* place,
                                            int lane) {
  __half* const halves = reinterpret_cast<__half*>(place);
  float* const squares = reinterpret_cast<float*>(halves + kChainRows * kTileRows);
  float low = two_squares(r.x, r.z), high = two_squares(r.y, r.w);
#pragma unroll
  for (int step = 4; step < kWarp; step *= 2) low += __shfl_xor_sync(0xffffffffu, low, step), high += __shfl_xor_sync(0xffffffffu, high, step);
  if (lane < 4) reinterpret_cast<float2*>(squares)[lane] = make_float2(low, high);
  const float4 x = make_float4(deferred(r.x, factor.x, weight.x), deferred(r.y, factor.y, weight.x), deferred(r.z, factor.x, weight.y),
                               deferred(r.w, factor.y, weight.y));
  const uint4 eight = eight_outputs(x, halves, lane);
  send(p.normed + tile * (2 * kChainRows) + lane, HalfPackets{uses}.marked(eight), lane < 2 * kChainRows);
  const float4 four = reinterpret_cast<const float4*>(squares)[lane % 2];
  const FloatPackets kind{uses};
  send(p.squares + tile * 2 + lane, make_uint4(kind.marked(four.x, 0), kind.marked(four.y, 1), kind.marked(four.z, 2), kind.marked(four.w, 3)), lane < 2);
}

/// What the x that is sent carries, by lane % kChainRows: one block tells all.
__device__ __forceinline__ void send_carried(const ChainRowsParams& p, float carried, int hidden, uint32_t uses, int lane) {
  const uint32_t word = FloatPackets{uses}.marked(carried, lane % 4);
  const uint4 four = make_uint4(word, __shfl_down_sync(0xffffffffu, word, 1), __shfl_down_sync(0xffffffffu, word, 2), __shfl_down_sync(0xffffffffu, word, 3));
  send(p.squares + hidden / kTileRows * 2 + lane / 4, four, lane == 0 || lane == 4);
}

__device__ __forceinline__ float2 weights_of_rows(const __half* weight) {
  return weight == nullptr ? make_float2(0.f, 0.f) : make_float2(__half2float(__ldg(weight)), __half2float(__ldg(weight + 8)));
}

/// Four sums, as they go to the block that adds them up.
__device__ __forceinline__ uint4 marked_floats(const float4& v, uint32_t uses) {
  const FloatPackets kind{uses};
  return make_uint4(kind.marked(v.x, 0), kind.marked(v.y, 1), kind.marked(v.z, 2), kind.marked(v.w, 3));
}

/// What all blocks of a group have of a row tile whose results are this one's, added up in their order.
__device__ __forceinline__ float4 add_pieces(const ChainRowsParams& p, const RowsShare& share, int part, const float4& own, uint32_t uses, int lane) {
  const FloatPackets kind{uses};
  const int splits = 1 << share.bits;
  const uint4* const from = p.pieces + (part << share.bits) * kWarp + lane;
  uint4 v[kMostSplits];
#pragma unroll
  for (int s = 0; s < kMostSplits; ++s) {
    v[s] = marked_floats(own, uses);  // as if it had come from elsewhere
    if (s < splits && s != share.split) v[s] = look(from + s * kWarp);
  }
#pragma unroll 1
  for (unsigned polls = 0;; ++polls) {
    bool any = false;
#pragma unroll
    for (int s = 0; s < kMostSplits; ++s)
      if (!kind.is_there(v[s])) any = true, v[s] = look(from + s * kWarp);
    if (!__any_sync(0xffffffffu, any)) break;
    if (polls > kMostPolls) give_up();
  }
  float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
  for (int s = 0; s < kMostSplits; ++s) {
    const float4 piece = FloatPackets::values(v[s]);
    if (s < splits) sum.x += piece.x, sum.y += piece.y, sum.z += piece.z, sum.w += piece.w;
  }
  return sum;
}

/// What a linear's packets are marked with.
struct RowsUses {
  uint32_t read, normed, gated, pieces;  // x that it reads, and what it sends

  /// @param used how often each was used before this launch
  __device__ __forceinline__ RowsUses(const uint4& used, int first_link, int linear) {
    gated = used.y + 1, pieces = used.z + (linear == kOutput ? 1 : 2);
    // After o once, after down twice; or once ahead of everything.
    normed = used.x + (linear == kOutput || first_link < 0 ? 1 : 2);
    read = linear == kGateUp ? used.x + 1 : linear == kNext ? normed : gated;
  }
};

/// A row tile, or a pair, whose results a warp makes: what they need beside sums.
struct RowsTile {
  int part, segment, n;        // n: row g of the tile, of its segment
  const __half *bias, *more;   // of row g, or null; more: the weights of the norm that follows, or up's bias

  __device__ __forceinline__ RowsTile(const ChainRowsParams& p, int linear, const RowsShare& share, int t, int lane) {
    const ChainLayer& layer = layer_of(p, p.first_link, linear);
    part = share.part(t);
    const ChainTile place(p.linears[linear], share.paired, part, 0);
    segment = place.segment, n = place.tile * kTileRows + lane / 4;
    const auto of_row = [&](const __half* from) { return from == nullptr || t >= share.parts ? nullptr : from + n; };
    bias = of_row(biases_of(layer, linear)[segment]);
    more = of_row(share.paired ? layer.up_bias : linear == kOutput ? layer.norm : linear == kDown && p.layers > 1 ? p.layer[1].in_norm : nullptr);
  }
};

/// Results of one linear, whose sums are in shared memory when the block has met. All blocks wait for what is done after the meeting: so what can be is done
/// before it.
__device__ __forceinline__ void rows_results(const ChainRowsParams& p, const ChainRowsShared& shared, int linear, int warp, int lane) {
  const ChainShape& w = p.linears[linear];
  const bool paired = linear == kGateUp, to_residual = linear == kOutput || linear == kDown, goes_on = linear != kDown || p.layers > 1;
  const RowsShare share(p, linear, settled(blockIdx.x));
  const int ways = rows_ways(share.tiles());
  const RowsUses uses(shared.used[warp], p.first_link, linear);
  int t = kChainWarps - 1 - warp;
  RowsTile tile(p, linear, share, t, lane);
  float2 bias = weights_of_rows(tile.bias), more = weights_of_rows(tile.more);
  // By what normed sums are to be multiplied, or what x that is sent carries.
  float of_lane = linear == kOutput ? shared.carried[lane % kChainRows] : rows_factor(shared, p.linears[kGateUp].k, p.eps, lane);
  const bool tells = blockIdx.x == 0 && warp == 0;
  if (tells && lane < p.m && (linear == kNext || linear == kDown && !goes_on)) p.left[lane] = of_lane;
  // Behind o nobody waits any more for what x before carried. Behind down somebody may: see below.
  if (tells && linear == kOutput) send_carried(p, of_lane, w.n0, uses.normed, lane);
  if (!to_residual) of_lane = __fdividef(of_lane, shared.carried[lane % kChainRows]) * (1.f / kDeferredRoom);
  else of_lane *= kDeferredRoom;
  const float2 factor = of_tokens(of_lane, lane);
  meet_chain();
#pragma unroll 1
  while (t < share.parts) {
    float4* const place = shared.sums + (t << paired) * ways * kWarp;
    float4 v = tile_sums(place + lane, ways);
    if (to_residual && !share.is_own(t)) {
      send(p.pieces + ((tile.part << share.bits) + share.split) * kWarp + lane, marked_floats(v, uses.pieces));
    } else if (to_residual) {
      if (share.bits > 0) v = add_pieces(p, share, tile.part, v, uses.pieces, lane);
      float4& kept = shared.kept[(t >> share.bits) * kWarp + lane];
      v.x = kept.x + (v.x + bias.x), v.y = kept.y + (v.y + bias.x), v.z = kept.z + (v.z + bias.y), v.w = kept.w + (v.w + bias.y);
      kept = v;
      __syncwarp();
      if (goes_on) send_normed(p, v, factor, more, tile.part, uses.normed, place, lane);
      // Not sooner: the block's own part of down's x tells only that those who sent it have read what x carried before; with the pieces of the
      // others of its group, which have the other parts, all have. The first row tile is the first block's.
      if (linear == kDown && goes_on && tile.part == 0) {
        const float first = __shfl_sync(0xffffffffu, factor.x, lane % kChainRows / 2), second = __shfl_sync(0xffffffffu, factor.y, lane % kChainRows / 2);
        send_carried(p, (lane % 2 == 0 ? first : second) * (1.f / kDeferredRoom), w.n0, uses.normed, lane);
      }
      if (linear == kDown) {
        const int token = lane % 4 * 2;
        float* const to = p.residual + size_t(token) * w.n0 + tile.n;
        if (token < p.m) to[0] = v.x, to[8] = v.z;
        if (token + 1 < p.m) to[w.n0] = v.y, to[w.n0 + 8] = v.w;
      }
    } else {
      v.x = fmaf(v.x, factor.x, bias.x), v.y = fmaf(v.y, factor.y, bias.x), v.z = fmaf(v.z, factor.x, bias.y), v.w = fmaf(v.w, factor.y, bias.y);
      if (paired) {
        float4 u = tile_sums(place + ways * kWarp + lane, ways);
        u.x = fmaf(u.x, factor.x, more.x), u.y = fmaf(u.y, factor.y, more.x), u.z = fmaf(u.z, factor.x, more.y), u.w = fmaf(u.w, factor.y, more.y);
        const auto silu = [](float gate, float up) { return up * __fdividef(gate, 1.f + __expf(-gate)); };
        v = make_float4(silu(v.x, u.x), silu(v.y, u.y), silu(v.z, u.z), silu(v.w, u.w));
      }
      __syncwarp();
      const uint4 eight = eight_outputs(v, reinterpret_cast<__half*>(place), lane);
      const int token = lane % 8, row = tile.n - lane / 4;
      if (paired) {
        send(p.gated + row / 8 * kChainRows + lane, HalfPackets{uses.gated}.marked(eight), lane < 2 * kChainRows);
      } else if (lane < 2 * kChainRows && token < p.m) {
        __half* const y = tile.segment == 0 ? p.y0 : tile.segment == 1 ? p.y1 : p.y2;
        const int outputs = tile.segment == 0 ? w.n0 : tile.segment == 1 ? w.n1 : w.n2;
        *reinterpret_cast<uint4*>(y + size_t(token) * outputs + row + lane / 8 * 8) = eight;
      }
    }
    t += kChainWarps;
    if (t >= share.parts) break;
    tile = RowsTile(p, linear, share, t, lane);
    bias = weights_of_rows(tile.bias), more = weights_of_rows(tile.more);
  }
}

}  // namespace exllama
