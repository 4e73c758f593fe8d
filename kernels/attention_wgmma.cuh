// What attention_wgmma.cu's warpgroups have in common: the rings of queries and of tiles between them, how a tile lies in shared
// memory, and the copying one.
#pragma once

#include <utility>

#include "attention.cuh"
#include "wgmma.cuh"

namespace exllama {

struct TiledAttentionParams {
  AttentionParams attention;
  int32_t tiles;
  int32_t unused;
};
static_assert(sizeof(TiledAttentionParams) == 96);

}  // namespace exllama

#ifdef EXLLAMA_WGMMA

namespace exllama {

constexpr int kTileRows = 128, kTileKeys = 128, kTileDim = 128;
constexpr int kTileHalf = kTileRows * 128;    // 64 dims of 128 rows
constexpr int kTileUnit = 2 * kTileHalf;      // keys or values of a tile; queries take as much
constexpr int kTileUnits = 4, kTileQueries = 2;
constexpr int kTileBarriers = 16 * (kTileUnits + kTileQueries);                                              // bytes
constexpr int kTileShared = 1024 + (kTileQueries + kTileUnits) * kTileUnit + kTileBarriers + 32 * kTileQueries;  // from a multiple of 1024 on
static_assert(kTileShared == 197792);

/// Values as second operand, [16 keys][128 dims]: two blocks of 64 dims, eight keys 1024 bytes apart. Add 128 for the next 16 keys.
__device__ __forceinline__ uint64_t values_operand(uint32_t address) {
  return uint64_t((address & 0x3ffff) >> 4) | uint64_t(kTileHalf >> 4) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}

/// d[64 x 128] += a[64 x 16] b[16 x 128], a in registers as mma_16x8x16 has it, b with its rows in shared memory.
__device__ __forceinline__ void wgmma_values(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" EXLLAMA_SUMS_TEXT_64 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
      : EXLLAMA_SUMS_64(d, 0)
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

/// Queries of a block's tiles in turn, and what the tiles are.
struct TileQueries {
  uint32_t units, barriers, spans;  // shared addresses; a span has 32 bytes
  int slot = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ uint32_t at() const { return units + slot * kTileUnit; }
  __device__ __forceinline__ uint32_t span() const { return spans + slot * 32; }
  __device__ __forceinline__ uint32_t full() const { return barriers + slot * 8; }
  __device__ __forceinline__ uint32_t empty() const { return barriers + (kTileQueries + slot) * 8; }
  __device__ __forceinline__ void advance() {
    if (++slot == kTileQueries) slot = 0, parity ^= 1;
  }
};

/// Which tile (of all heads) a block takes in its n-th round, the longest first, back and forth over the blocks so that none has the
/// longest of every round. Beyond the last one: none.
__device__ __forceinline__ int tile_item(int round) {
  return round * gridDim.x + (round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x);
}

/// A head's rows and the keys that they see.
struct TileSpan {
  int row0, rows, position, begin, end, head;  // position of row0, -1: idle; keys begin .. end - 1

  __device__ __forceinline__ TileSpan(const AttentionParams& p, int tile, int head) : head(head) {
    const int2 span = p.tiles[tile];
    row0 = span.x, rows = span.y;
    position = p.positions[row0];
    end = position < 0 ? 0 : position + rows;
    begin = p.window == 0 ? 0 : max(0, position + 1 - p.window) / kTileKeys * kTileKeys;
  }
  __device__ __forceinline__ explicit TileSpan(uint32_t shared) {
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(row0), "=r"(rows), "=r"(position), "=r"(begin) : "r"(shared) : "memory");
    asm volatile("ld.shared.v2.b32 {%0, %1}, [%2 + 16];" : "=r"(end), "=r"(head) : "r"(shared) : "memory");
  }
  __device__ __forceinline__ void store(uint32_t shared) const {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(row0), "r"(rows), "r"(position), "r"(begin) : "memory");
    asm volatile("st.shared.v2.b32 [%0 + 16], {%1, %2};" ::"r"(shared), "r"(end), "r"(head) : "memory");
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
__device__ __forceinline__ void copy_tiles(const TiledAttentionParams& params, TileQueries queries, TileRing ring, int thread) {
  const AttentionParams& p = params.attention;
  const int row = thread / 16, cell = thread % 16, items = p.heads * params.tiles;
  const uint32_t to = tile_cell(row, cell);
  TileRing landed = ring;
#pragma unroll 1
  for (int round = 0; tile_item(round) < items; ++round) {
    const int item = tile_item(round);
    const TileSpan span(p, params.tiles - 1 - item / p.heads, item % p.heads);
    barrier_wait(queries.empty(), queries.parity ^ 1);
    const __half* q = p.q + (size_t(span.row0 + row) * p.heads + span.head) * kTileDim + cell * 8;
#pragma unroll 4
    for (int i = 0; i < kTileRows / 8; ++i)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(queries.at() + to + i * 1024),
                   "l"(row + 8 * i < span.rows ? q + size_t(8 * i) * p.heads * kTileDim : p.q), "r"(row + 8 * i < span.rows ? 16 : 0)
                   : "memory");
    copy_async_commit();
    if (thread == 0) span.store(queries.span());
    int published = 0, units = 1;
    auto publish = [&] {
      publish_shared();
      if (published++ == 0) {
        barrier_arrive(queries.full());
      } else {
        barrier_arrive(landed.full());
        landed.advance();
      }
    };
    const int32_t* pages = p.pages + size_t(p.sequence[span.row0]) * p.max_pages;
    const int kv_head = span.head / (p.heads / p.kv_heads);
    for (int key0 = span.begin; key0 < span.end; key0 += kTileKeys) {
      const size_t base = page_base(p, pages, key0, kv_head) + row * kTileDim + cell * 8;
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
    if (units > 1) {
      copy_async_wait<1>();
      publish();
    }
    copy_async_wait<0>();
    publish();
    queries.advance();
  }
}

}  // namespace exllama

#endif  // EXLLAMA_WGMMA
