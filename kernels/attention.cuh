// What every attention kernel over whole prompts takes.
#pragma once

#include "common.cuh"

namespace exllama {

struct AttentionParams {
  const __half* q;          // [m, heads, dim]
  const void* k_cache;      // kv_cells.cuh
  const void* v_cache;
  __half* y;                // [m, heads, dim]
  const int32_t* positions; // [m]; -1: an idle row
  const int32_t* sequence;  // [m] row of the page table
  const int32_t* pages;     // [sequences, max_pages]
  const int2* tiles;        // first row and rows (<= 128) of each tile, all of one sequence
  int32_t heads, kv_heads, dim, max_pages;
  int32_t window;           // 0: none
  float scale;              // log2(e) / sqrt(dim)
};
static_assert(sizeof(AttentionParams) == 88);

/// First row and rows (none, if negative) of a block that takes half a tile, its grid's y being twice the tiles. The longest tiles of all heads
/// first: they decide when the kernel ends.
__device__ __forceinline__ int2 half_tile(const AttentionParams& p) {
  const int at = gridDim.y - 1 - blockIdx.y, behind = at % 2 * 64;
  const int2 tile = p.tiles[at / 2];
  return make_int2(tile.x + behind, min(64, tile.y - behind));
}

/// First token of the page that holds `key` in an f16 cache, in elements.
__device__ __forceinline__ size_t page_base(const AttentionParams& p, const int32_t* pages, int key, int kv_head) {
  return ((size_t(pages[key / kPageTokens]) * p.kv_heads + kv_head) * kPageTokens + key % kPageTokens) * p.dim;
}

/// 2^x, 0 for -infinity.
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace exllama
