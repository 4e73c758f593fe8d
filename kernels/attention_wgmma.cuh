// What attention_wgmma.cu's warpgroups have in common: the ring of tiles between them, how a tile lies in shared memory, and the
// copying one.
#pragma once

#include <utility>

#include "attention.cuh"
#include "wgmma.cuh"

#ifdef EXLLAMA_WGMMA

namespace exllama {

constexpr int kTileRows = 128, kTileKeys = 128, kTileDim = 128;
constexpr int kTileHalf = kTileRows * 128;    // 64 dims of 128 rows
constexpr int kTileUnit = 2 * kTileHalf;      // keys or values of a tile; queries take as much
constexpr int kTileUnits = 4;
constexpr int kTileShared = 1024 + (1 + kTileUnits) * kTileUnit + 2 * kTileUnits * 8;  // from a multiple of 1024 on
static_assert(kTileShared == 164928);

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

}  // namespace exllama

#endif  // EXLLAMA_WGMMA
