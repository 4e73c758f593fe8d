// Attention of prompts on Hopper's warpgroup products: attention_prefill_d128 of attention.cu, faster.
//
// Strategy   A block takes up to 128 consecutive tokens of one sequence and one head. One warpgroup only copies keys and
//            values, 128 of them at a time, into a ring of four units; two compute 64 rows each: scores from shared
//            memory, softmax in registers, whose fragments are the next product's first operand. While one of them
//            is at its softmax the other has the tensor cores; a warpgroup's next scores are queued behind
//            its sums of values.
//   copies   cp.async, 16 bytes each, into rows of 128 bytes whose cells are exchanged as the products want them. What
//            lies behind a sequence's end becomes zeros, so that nothing left over in a page can turn into NaN.
// Bits       Every row sums its keys in tiles of 128 in ascending order, whatever the tile of rows.
// Limits     sm_90a, f16 cache, dim == 128; 164 KB of shared memory
// Reference  attention_ref
#include <utility>

#include "attention.cuh"
#include "wgmma.cuh"

namespace exllama {

constexpr int kTileRows = 128, kTileKeys = 128, kTileDim = 128;
constexpr int kTileHalf = kTileRows * 128;    // 64 dims of 128 rows
constexpr int kTileUnit = 2 * kTileHalf;      // keys or values of a tile; queries take as much
constexpr int kTileUnits = 4;
constexpr int kTileShared = 1024 + (1 + kTileUnits) * kTileUnit + 2 * kTileUnits * 8;  // from a multiple of 1024 on
static_assert(kTileShared == 164928);

#ifdef EXLLAMA_WGMMA

/// Values as second operand, [16 keys][128 dims]: two blocks of 64 dims, eight keys 1024 bytes apart. Add 128 for the next 16 keys.
__device__ __forceinline__ uint64_t values_operand(uint32_t address) {
  return uint64_t((address & 0x3ffff) >> 4) | uint64_t(kTileHalf >> 4) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}

/// d[64 x 128] += a[64 x 16] b[16 x 128], a in registers as mma_16x8x16 has it, b with its rows in shared memory.
__device__ __forceinline__ void wgmma_values(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
        "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
        "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
        "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
        "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
        "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
        "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
        "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/// Where a 16-byte cell (of 16) of a row lies in a unit.
__device__ __forceinline__ int tile_cell(int row, int cell) { return cell / 8 * kTileHalf + row * 128 + ((cell ^ row) & 7) * 16; }

/// The ring of units: keys of a tile, its values, keys of the next …
struct TileRing {
  uint32_t units, barriers;
  int slot = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ uint32_t at() const { return units + slot * kTileUnit; }
  __device__ __forceinline__ uint32_t full() const { return barriers + slot * 8; }
  __device__ __forceinline__ uint32_t empty() const { return barriers + (kTileUnits + slot) * 8; }
  __device__ __forceinline__ void advance() {
    if (++slot == kTileUnits) slot = 0, parity ^= 1;
  }
};

/// What a block works on.
struct TileSpan {
  int row0, rows, position, begin, end, head, kv_head;  // position of row0, -1: idle; keys begin .. end - 1
  const int32_t* pages;

  __device__ __forceinline__ explicit TileSpan(const AttentionParams& p) {
    // The longest tiles of all heads first: they decide when the kernel ends.
    const int2 span = p.tiles[gridDim.y - 1 - blockIdx.y];
    row0 = span.x, rows = span.y;
    position = p.positions[row0];
    head = blockIdx.x, kv_head = head / (p.heads / p.kv_heads);
    end = position < 0 ? 0 : position + rows;
    begin = p.window == 0 ? 0 : max(0, position + 1 - p.window) / kTileKeys * kTileKeys;
    pages = p.pages + size_t(p.sequence[row0]) * p.max_pages;
  }
};

/// Cell kEighth of every eighth of a column, zeros from row `there` on. The offset is part of the instruction: there are few registers.
template <int kEighth>
__device__ __forceinline__ void copy_cell(uint32_t to, const __half* from, int there) {
  asm volatile("cp.async.cg.shared.global [%0 + %1], [%2 + %3], 16, %4;" ::"r"(to), "n"(kEighth * 1024), "l"(from),
               "n"(kEighth * 8 * kTileDim * 2), "r"(8 * kEighth < there ? 16 : 0)
               : "memory");
}
template <int... kEighths>
__device__ __forceinline__ void copy_column(uint32_t to, const __half* from, int there, std::integer_sequence<int, kEighths...>) {
  (copy_cell<kEighths>(to, from, there), ...);
}

/// The copying warpgroup. What has landed is published two units later: until then its threads have other copies to ask for.
__device__ __forceinline__ void copy_tiles(const AttentionParams& p, const TileSpan& span, TileRing ring, int thread) {
  const int row = thread / 16, cell = thread % 16;
  TileRing landed = ring;
  auto publish = [&] {
    publish_shared();
    barrier_arrive(landed.full());
    landed.advance();
  };
  int units = 0;
  const uint32_t to = tile_cell(row, cell);
  for (int key0 = span.begin; key0 < span.end; key0 += kTileKeys) {
    const size_t base = page_base(p, span.pages, key0, span.kv_head) + row * kTileDim + cell * 8;
    const int there = span.end - key0 - row;
#pragma unroll 1
    for (int which = 0; which < 2; ++which) {
      const __half* from = static_cast<const __half*>(which == 0 ? p.k_cache : p.v_cache) + base;
      barrier_wait(ring.empty(), ring.parity ^ 1);
      copy_column(ring.at() + to, from, there, std::make_integer_sequence<int, kTileKeys / 8>());
      copy_async_commit();
      ring.advance();
      if (++units > 2) {
        copy_async_wait<2>();
        publish();
      }
    }
  }
  copy_async_wait<1>();
  publish();
  copy_async_wait<0>();
  publish();
}

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

__device__ __forceinline__ void attend_tiles(const AttentionParams& p, const TileSpan& span, TileRing ring, uint8_t* queries, int thread) {
  const int group = thread / 128, warp = thread / kWarp % 4, lane = thread % kWarp, g = lane / 4, t = lane % 4;
  const int own0 = 64 * group, first = span.position + own0, last = min(first + 63, span.end - 1);  // positions of the warpgroup's rows
  {  // its queries, to shared memory as the products want them
    const __half* q = p.q + (size_t(span.row0) * p.heads + span.head) * kTileDim;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int row = own0 + (thread % 128) / 16 + 8 * i, cell = thread % 16;
      uint4 words = make_uint4(0, 0, 0, 0);
      if (row < span.rows) words = *reinterpret_cast<const uint4*>(q + size_t(row) * p.heads * kTileDim + cell * 8);
      *reinterpret_cast<uint4*>(queries + tile_cell(row, cell)) = words;
    }
    publish_shared();
    if (group == 0) asm volatile("bar.sync 1, 128;" ::: "memory");
    else asm volatile("bar.sync 2, 128;" ::: "memory");
  }
  const uint32_t own_queries = shared_address(queries) + own0 * 128;
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

/// grid (heads, tiles), block 384; tiles of at most 128 rows.
extern "C" __global__ void __launch_bounds__(384, 1) attention_prefill_wgmma_d128(const __grid_constant__ exllama::AttentionParams p) {
#ifdef EXLLAMA_WGMMA
  using namespace exllama;
  extern __shared__ uint8_t dynamic_shared[];
  const uint32_t base = shared_address(dynamic_shared), aligned = (base + 1023) & ~1023u;
  uint8_t* queries = dynamic_shared + (aligned - base);
  TileRing ring;
  ring.units = aligned + kTileUnit;
  ring.barriers = ring.units + kTileUnits * kTileUnit;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kTileUnits; ++i, ring.slot = i) {
      barrier_init(ring.full(), 128);
      barrier_init(ring.empty(), 8);
    }
    barrier_init_done();
  }
  ring.slot = 0;
  __syncthreads();
  allow_next();
  const TileSpan span(p);  // of the step's inputs: no kernel writes them
  wait_previous();
  if (threadIdx.x < 128) {
    give_registers<56>();
    copy_tiles(p, span, ring, threadIdx.x);
  } else {
    take_registers<224>();
    attend_tiles(p, span, ring, queries, threadIdx.x - 128);
  }
#endif
}
