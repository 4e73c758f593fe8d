// Attention of prompts on Hopper's warpgroup products: attention_prefill_d128 of attention.cu, faster.
//
// Strategy   A tile is up to 128 consecutive tokens of one sequence and one head. Blocks are persistent and take tiles in rounds, so
//            that a tile's first keys arrive while the one before is at its end. One warpgroup only copies: queries of
//            the next tile, and keys and values, 128 of them at a time, into a ring of four units; two compute 64 rows each: scores from shared
//            memory, softmax in registers, whose fragments are the next product's first operand. While one of them
//            is at its softmax the other has the tensor cores; a warpgroup's next scores are queued behind
//            its sums of values.
//   copies   cp.async, 16 bytes each, into rows of 128 bytes whose cells are exchanged as the products want them. What
//            lies behind a sequence's end becomes zeros, so that nothing left over in a page can turn into NaN.
//   barriers Every copying thread arrives once at a unit's or tile's "full", lane 0 of every computing warp once at its "empty",
//            whether the warp's rows see it or not: both sides walk the same tiles, so every phase ends.
// Bits       Every row sums its keys in tiles of 128 in ascending order, whatever the tile of rows.
// Limits     sm_90a, f16 cache, dim == 128; 194 KB of shared memory
// Reference  attention_ref
#include "attention_wgmma.cuh"

namespace exllama {

#ifdef EXLLAMA_WGMMA

/// The 64 rows of a computing warpgroup.
struct TileRows {
  float out[64];               // 8 dims: row g dims 2t, 2t+1, row g + 8
  float highest[2], total[2];  // scaled to powers of two; `total` of this lane's keys alone

  __device__ __forceinline__ void begin() {
#pragma unroll
    for (int i = 0; i < 64; ++i) out[i] = 0.f;
    highest[0] = highest[1] = -INFINITY;
    total[0] = total[1] = 0.f;
  }

  /// Scores to probabilities; sums so far shrink to the new maximum.
  __device__ __forceinline__ void soften(float (&s)[64], uint32_t (&to)[8][4], float scale) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float best = fmaxf(s[2 * h], s[2 * h + 1]);
#pragma unroll
      for (int n = 1; n < 16; ++n) best = fmaxf(best, fmaxf(s[4 * n + 2 * h], s[4 * n + 2 * h + 1]));
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 1));
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 2));
      best = fmaxf(highest[h], best * scale);
      const float base = best == -INFINITY ? 0.f : best, shrink = power_of_two(highest[h] - base);
      highest[h] = best;
      float sum = 0.f;
#pragma unroll
      for (int n = 0; n < 16; ++n) {
        const float a = power_of_two(fmaf(s[4 * n + 2 * h], scale, -base)), b = power_of_two(fmaf(s[4 * n + 2 * h + 1], scale, -base));
        sum += a + b;
        const __half2 pair = __floats2half2_rn(a, b);
        to[n / 2][n % 2 * 2 + h] = *reinterpret_cast<const uint32_t*>(&pair);
      }
      total[h] = total[h] * shrink + sum;
#pragma unroll
      for (int j = 0; j < 16; ++j) out[4 * j + 2 * h] *= shrink, out[4 * j + 2 * h + 1] *= shrink;
    }
  }
};

__device__ __forceinline__ void score_tile(float (&s)[64], uint32_t queries, uint32_t keys) {
  const uint64_t a = wgmma_operand(queries), b = wgmma_operand(keys);
  wgmma_begin();
#pragma unroll
  for (int kk = 0; kk < kTileDim / 16; ++kk) {
    const int at = kk / 4 * (kTileHalf >> 4) + kk % 4 * 2;
    wgmma_k16<128>(s, a + at, b + at, kk > 0);
  }
  wgmma_commit();
}

__device__ __forceinline__ void gather_tile(TileRows& rows, const uint32_t (&weights)[8][4], uint32_t values) {
  const uint64_t b = values_operand(values);
  wgmma_begin();
#pragma unroll
  for (int kk = 0; kk < kTileKeys / 16; ++kk) wgmma_values(rows.out, weights[kk], b + kk * 128);
  wgmma_commit();
}

/// One tile of a block.
__device__ __forceinline__ void attend_tile(const AttentionParams& p, const TileSpan& span, TileRing& ring, const TileQueries& queries, int thread) {
  const int group = thread / 128, warp = thread / kWarp % 4, lane = thread % kWarp, g = lane / 4, t = lane % 4;
  const int own0 = 64 * group, first = span.position + own0, last = min(first + 63, span.end - 1);  // positions of the warpgroup's rows
  const uint32_t own_queries = queries.at() + own0 * 128;
  // Tiles that some row of the warpgroup sees; all others are only passed on.
  auto seen = [&](int key0) { return key0 <= last && own0 < span.rows && (p.window == 0 || key0 + kTileKeys > first + 1 - p.window); };
  auto pass = [&] {
    if (lane == 0) barrier_arrive(ring.empty());
    ring.advance();
  };
  auto skip = [&] {  // not before it is there: the slot could still be another tile's
    barrier_wait(ring.full(), ring.parity);
    pass();
  };
  TileRows rows;
  rows.begin();
  float s[64];
  int key0 = span.begin;
  for (; key0 < span.end && !seen(key0); key0 += kTileKeys) {
    skip();
    skip();
  }
  bool going = key0 < span.end;
  if (going) {
    barrier_wait(ring.full(), ring.parity);
    score_tile(s, own_queries, ring.at());
    wgmma_wait<0>();
    wgmma_results(s);
    pass();
  }
  while (going) {
    const int row_first = first + 16 * warp;
    if (key0 + kTileKeys - 1 > row_first || (p.window != 0 && key0 <= row_first + 15 - p.window)) {
#pragma unroll
      for (int i = 0; i < 64; ++i) {
        const int key = key0 + i / 4 * 8 + 2 * t + i % 2, at = row_first + g + i / 2 % 2 * 8;
        if (key > at || (p.window != 0 && key <= at - p.window)) s[i] = -INFINITY;
      }
    }
    uint32_t weights[8][4];
    rows.soften(s, weights, p.scale);
    barrier_wait(ring.full(), ring.parity);
    gather_tile(rows, weights, ring.at());
    const uint32_t used = ring.empty();
    ring.advance();
    key0 += kTileKeys;
    going = key0 < span.end && seen(key0);
    if (going) {
      barrier_wait(ring.full(), ring.parity);
      score_tile(s, own_queries, ring.at());
      wgmma_wait<1>();
      if (lane == 0) barrier_arrive(used);
      wgmma_wait<0>();
      wgmma_results(s);
      wgmma_results(rows.out);
      pass();
    } else {
      wgmma_wait<0>();
      wgmma_results(rows.out);
      if (lane == 0) barrier_arrive(used);
    }
  }
  if (lane == 0) barrier_arrive(queries.empty());
  for (; key0 < span.end; key0 += kTileKeys) {
    skip();
    skip();
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float total = rows.total[h];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    const int row = own0 + 16 * warp + g + 8 * h;
    if (row >= span.rows) continue;
    __half* y = p.y + (size_t(span.row0 + row) * p.heads + span.head) * kTileDim;
    const float inverse = total > 0.f ? 1.f / total : 0.f;
#pragma unroll
    for (int j = 0; j < 16; ++j)
      *reinterpret_cast<__half2*>(y + 8 * j + 2 * t) = __floats2half2_rn(rows.out[4 * j + 2 * h] * inverse, rows.out[4 * j + 2 * h + 1] * inverse);
  }
}

#endif  // EXLLAMA_WGMMA

}  // namespace exllama

/// grid: a block per head and tile of at most 128 rows, at most as many as the card has multiprocessors; block 384.
extern "C" __global__ void __launch_bounds__(384, 1) attention_prefill_wgmma_d128(const __grid_constant__ exllama::TiledAttentionParams p) {
#ifdef EXLLAMA_WGMMA
  using namespace exllama;
  extern __shared__ uint8_t dynamic_shared[];
  const uint32_t aligned = (shared_address(dynamic_shared) + 1023) & ~1023u;
  TileQueries queries;
  TileRing ring;
  queries.units = aligned;
  ring.units = aligned + kTileQueries * kTileUnit;
  ring.barriers = ring.units + kTileUnits * kTileUnit;
  queries.barriers = ring.barriers + 16 * kTileUnits;
  queries.spans = queries.barriers + 16 * kTileQueries;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kTileUnits; ++i, ring.slot = i) {
      barrier_init(ring.full(), 128);
      barrier_init(ring.empty(), 8);
    }
    for (int i = 0; i < kTileQueries; ++i, queries.slot = i) {
      barrier_init(queries.full(), 128);
      barrier_init(queries.empty(), 8);
    }
    barrier_init_done();
  }
  ring.slot = queries.slot = 0;
  __syncthreads();
  allow_next();
  wait_previous();
  if (threadIdx.x < 128) {
    give_registers<56>();
    copy_tiles(p, queries, ring, threadIdx.x);
  } else {
    take_registers<224>();
    for (int round = 0; tile_item(round) < p.attention.heads * p.tiles; ++round) {
      barrier_wait(queries.full(), queries.parity);
      attend_tile(p.attention, TileSpan(queries.span()), ring, queries, threadIdx.x - 128);
      queries.advance();
    }
  }
#endif
}
