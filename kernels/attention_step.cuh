// Attention of a decode step: one token of each sequence, whose key and value this kernel turns and writes to the
// cache itself. attention.cu and attention_quantized.cu make kernels of it, one for each kind of cache cells.
//
// Strategy   The rows of a product are the query heads that share a KV head (grouped queries read K and V once). Keys are
//            cut into parts over blocks and, inside, over warps, each with a ring of its own that cp.async fills.
//            Everything but the newest cell is of earlier steps: the rings are filled before the kernel
//            ahead (q, k, v) has ended. Then the block's warps norm and turn its queries, and in the block of the
//            last part the new key and value, which go to the cache and, from shared memory, into the ring: nobody reads from the
//            cache what this kernel writes.
// Merging    In the order of the warps, then of the parts: attention_merge.cuh. The bits never differ.
// Limits     dim % 8 == 0, dim <= 256; rows of one step are of different sequences
#pragma once

#include "attention_merge.cuh"
#include "kv_cells.cuh"

namespace exllama {

/// What is in shared memory beside the rings: queries as they are multiplied, the newest key and value as they lie in the cache.
template <int kBits, int kDim>
struct StepHeads {
  static constexpr int kRows = (kDim + 127) / 128;
  static constexpr int kPitch = kDim + 8;  // eight rows hit all banks
  static constexpr int kQueries = 16 * kPitch * 2;
  static constexpr int kCells = (kDim * kBits + 127) / 128;
  static constexpr int kCell = kCells * 16 + 16;  // at most eight scales behind it
  static constexpr int kBytes = kQueries + 2 * kCell;

  uint8_t* at;

  __device__ __forceinline__ __half* query(int r) const { return reinterpret_cast<__half*>(at) + r * kPitch; }
  __device__ __forceinline__ uint8_t* cells(bool is_value) const { return at + kQueries + is_value * kCell; }
  __device__ __forceinline__ __half* scales(bool is_value) const { return reinterpret_cast<__half*>(cells(is_value) + kCells * 16); }

  /// All heads of a block, turned: key and value first (they take longest) where it has the newest, then `rows` queries. A warp has two under
  /// way, and one path for all of them: what is short to run is short to fetch, too.
  template <int kWarps>
  __device__ __forceinline__ void fill(const AttentionStepParams& p, int row, int kv_head, int head0, int rows, bool has_newest, int warp, int lane) const {
    const int before = has_newest ? 2 : 0, count = rows + before;
    auto source = [&](int task) {
      return task >= before ? p.q + (size_t(row) * p.heads + head0 + task - before) * p.dim : (task == 0 ? p.k : p.v) + (size_t(row) * p.kv_heads + kv_head) * p.dim;
    };
    Turns<kRows> turns;
    HeadCells<kRows> next;
    if (warp < count) next.load(source(warp), p.dim, lane);
    turns.load(p.table + size_t(row) * (p.dim / 2), p.dim, lane);
#pragma unroll 1
    for (int task = warp; task < count; task += kWarps) {
      const HeadCells<kRows> from = next;
      if (task + kWarps < count) next.load(source(task + kWarps), p.dim, lane);
      const bool is_query = task >= before, is_value = !is_query && task == 1;
      HeadRow<kRows> x;
      x.take(from);
      if (!is_value) x.turn(from, is_query ? p.q_norm : p.k_norm, p.eps, turns, p.dim, lane);
      if constexpr (kBits == 4) x.rotate(p.dim, lane);
      if (kBits == 16 || is_query) x.store_half(is_query ? query(task - before) : reinterpret_cast<__half*>(cells(is_value)), kDim, lane);
      else if (is_value) x.template store<kBits, true>(cells(true), scales(true), p.dim, lane);
      else x.template store<kBits, false>(cells(false), scales(false), p.dim, lane);
    }
  }
};

/// Page table of one sequence: its first pages in the lanes of a warp, so that they are there as soon as the position.
struct PageRow {
  const int32_t* pages;
  int first;

  __device__ __forceinline__ PageRow(const int32_t* row, int count, int lane) : pages(row), first(lane < count ? row[lane] : 0) {}

  /// All lanes ask for the same.
  __device__ __forceinline__ int operator[](int i) const { return i < kWarp ? __shfl_sync(0xffffffffu, first, i) : pages[i]; }
};

/// Cells: how a kind of cache lies in a warp's ring: kBits, kKeys at a time, kWarps, kStages, kTile and kScales bytes of keys (and again
/// of values) in a stage, Queries, load(), step(), Tile::at().
template <typename Cells, int kDim>
__device__ __forceinline__ void decode_rows(const AttentionStepParams& p) {
  using Rows = CodeRows<Cells::kBits>;
  using Heads = StepHeads<Cells::kBits, kDim>;
  constexpr int kWarps = Cells::kWarps, kKeys = Cells::kKeys, kStages = Cells::kStages;
  constexpr int kStage = 2 * (Cells::kTile + Cells::kScales), kRings = kWarps * kStages * kStage;
  static_assert(kRings % 128 == 0 && BlockSums<kWarps, kDim>::kBytes + 4 <= kRings + Heads::kBytes);
  extern __shared__ __align__(128) uint8_t shared[];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int row = blockIdx.z, split = blockIdx.x, tiles = (p.group + 15) / 16;
  const int kv_head = tiles == 1 ? blockIdx.y : blockIdx.y / tiles, tile0 = 16 * (blockIdx.y - kv_head * tiles);
  const int head0 = kv_head * p.group + tile0, rows = min(16, p.group - tile0);
  allow_next();
  // Positions and page tables are not written by any kernel of this step either.
  const int position = p.positions[row];
  const PageRow pages(p.pages + size_t(row) * p.max_pages, p.max_pages, lane);
  const Split cut(p, position);
  if (split >= cut.parts) {
    // Whoever has nothing to do makes room for the kernel behind at once. That one waits for this whole grid, in which somebody has to
    // wait for the kernel ahead: each row's first block, also where the row is idle.
    if (split == 0) wait_previous();
    return;
  }
  const int begin = cut.first + split * cut.each, end = min(begin + cut.each, position + 1);
  const bool has_newest = end > position;
  const int cells = Rows::cells(p.dim), scales = Rows::scales(p.dim), piece = Rows::piece(p.dim);

  uint8_t* ring = shared + warp * kStages * kStage;
  const Heads heads{shared + kRings};
  const int step = kKeys * kWarps, first = begin + kKeys * warp;
  auto copy = [&](int key, int stage) {
    if (key < end) {
      const size_t at = (size_t(pages[key / kPageTokens]) * p.kv_heads + kv_head) * piece;
      // Of the newest key nothing is in the cache yet: zeros.
      Cells::load(ring + stage * kStage, static_cast<const uint8_t*>(p.k_cache) + at, static_cast<const uint8_t*>(p.v_cache) + at, key % kPageTokens,
                  min(end, position) - key, p.dim, lane);
    }
    copy_async_commit();
  };
#pragma unroll 1
  for (int s = 0; s < kStages; ++s) copy(first + s * step, s);
  wait_previous();
  heads.template fill<kWarps>(p, row, kv_head, head0, rows, has_newest, warp, lane);
  __syncthreads();

  typename Cells::Queries tile;
  tile.begin();
  tile.position = position;
  Cells::load_q(tile, heads.query(0), Heads::kPitch, p.dim, lane);
  int stage = 0;
  for (int key = first; key < end; key += step) {
    copy_async_wait<kStages - 1>();
    __syncwarp();
    uint8_t* codes = ring + stage * kStage;
    if (key + kKeys > position) {  // the newest cell, to its place here and in the cache
      const int at = position - key, token = position % kPageTokens;
      const size_t page_at = (size_t(pages[position / kPageTokens]) * p.kv_heads + kv_head) * piece;
      const bool writes = tile0 == 0;  // of several blocks with heads of this KV head
      for (int i = lane; i < 2 * cells; i += kWarp) {
        const bool is_value = i >= cells;
        const int cell = is_value ? i - cells : i;
        const uint4 words = reinterpret_cast<const uint4*>(heads.cells(is_value))[cell];
        *reinterpret_cast<uint4*>(codes + is_value * Cells::kTile + Cells::Tile::at(at, cell)) = words;
        uint8_t* to = static_cast<uint8_t*>(is_value ? p.v_cache : p.k_cache) + page_at;
        if (writes) reinterpret_cast<uint4*>(to)[token * cells + cell] = words;
      }
      if (lane < 2 * scales) {
        const bool is_value = lane >= scales;
        const int which = is_value ? lane - scales : lane;
        const __half scale = heads.scales(is_value)[which];
        reinterpret_cast<__half*>(codes + 2 * Cells::kTile + is_value * Cells::kScales)[at * scales + which] = scale;
        uint8_t* to = static_cast<uint8_t*>(is_value ? p.v_cache : p.k_cache) + page_at + kPageTokens * cells * 16;
        if (writes) reinterpret_cast<__half*>(to)[token * scales + which] = scale;
      }
      __syncwarp();
    }
    const bool masked = key + kKeys - 1 > position || (p.window != 0 && key <= position - p.window);
    Cells::step(tile, codes, key, masked, p.window, p.dim, p.scale, lane);
    __syncwarp();
    copy(key + kStages * step, stage);
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }
  tile.finish();
  copy_async_wait<0>();
  __syncthreads();

  using Sums = BlockSums<kWarps, kDim>;
  const Sums sums{reinterpret_cast<float*>(shared)};
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (g + 8 * h >= rows) continue;
    float* to = sums.of(warp, g + 8 * h);
    tile.store(to, h, t);
    if (t == 0) to[kDim] = tile.highest[h], to[kDim + 1] = tile.total[h];
  }
  __syncthreads();
  merge_block<typename Cells::Turn>(p, sums, cut.parts, row, head0, rows);
}

}  // namespace exllama
