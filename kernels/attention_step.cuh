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

  __device__ __forceinline__ void put_query(const HeadCells<kRows>& cells, int r, const Turns<kRows>& turns, const AttentionStepParams& p, int lane) const {
    HeadRow<kRows> x;
    x.take_turned(cells, p.q_norm, p.eps, turns, p.dim, lane);
    if constexpr (kBits == 4) x.rotate(p.dim, lane);
    x.store_half(query(r), p.dim, lane);
  }

  template <bool kIsValue>
  __device__ __forceinline__ void put_newest(const HeadCells<kRows>& from, const Turns<kRows>& turns, const AttentionStepParams& p, int lane) const {
    HeadRow<kRows> x;
    if constexpr (kIsValue) x.take(from);
    else x.take_turned(from, p.k_norm, p.eps, turns, p.dim, lane);
    if constexpr (kBits == 4) x.rotate(p.dim, lane);
    x.template store<kBits, kIsValue>(cells(kIsValue), scales(kIsValue), p.dim, lane);
  }

  /// All heads of a block: key and value first (they take longest) where it has the newest, then `rows` queries, two under way per warp.
  template <int kWarps>
  __device__ __forceinline__ void fill(const AttentionStepParams& p, int row, int kv_head, int head0, int rows, bool has_newest, int warp, int lane) const {
    const int before = has_newest ? 2 : 0, count = rows + before;
    const __half* queries = p.q + (size_t(row) * p.heads + head0) * p.dim;
    Turns<kRows> turns;
    turns.load(p.table + size_t(row) * (p.dim / 2), p.dim, lane);
#pragma unroll 1
    for (int first = warp; first < count; first += 2 * kWarps) {
      const int second = first + kWarps;
      HeadCells<kRows> a, b;
      a.load(first >= before ? queries + (first - before) * p.dim : (first == 0 ? p.k : p.v) + (size_t(row) * p.kv_heads + kv_head) * p.dim, p.dim, lane);
      if (second < count) b.load(queries + (second - before) * p.dim, p.dim, lane);
      if (first >= before) put_query(a, first - before, turns, p, lane);
      else if (first == 0) put_newest<false>(a, turns, p, lane);
      else put_newest<true>(a, turns, p, lane);
      if (second < count) put_query(b, second - before, turns, p, lane);
    }
  }
};

/// Cells: how a kind of cache lies in a warp's ring: kBits, kKeys at a time, kWarps, kStages, kTile and kScales bytes of keys (and again
/// of values) in a stage, Queries, load(), step(), Tile::at().
template <typename Cells, int kDim>
__device__ __forceinline__ void decode_rows(const AttentionStepParams& p) {
  using Rows = CodeRows<Cells::kBits>;
  using Heads = StepHeads<Cells::kBits, kDim>;
  constexpr int kWarps = Cells::kWarps, kKeys = Cells::kKeys, kStages = Cells::kStages;
  constexpr int kStage = 2 * (Cells::kTile + Cells::kScales), kRings = kWarps * kStages * kStage;
  static_assert(kRings % 128 == 0 && BlockSums<kWarps, kDim>::kBytes <= kRings + Heads::kBytes && kMergeBytes <= kRings);
  extern __shared__ __align__(128) uint8_t shared[];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int group = p.heads / p.kv_heads, tiles = (group + 15) / 16;
  const int kv_head = blockIdx.y / tiles, head0 = kv_head * group + blockIdx.y % tiles * 16, rows = min(16, kv_head * group + group - head0);
  const int row = blockIdx.z, split = blockIdx.x;
  allow_next();
  // Positions and page tables are not written by any kernel of this step either.
  const int position = p.positions[row];
  const int32_t* pages = p.pages + size_t(p.sequence[row]) * p.max_pages;
  const Split cut(p, position);
  if (position < 0 || split >= cut.parts) {
    wait_previous();
    return;
  }
  const int begin = cut.first + split * cut.each, end = min(begin + cut.each, position + 1);
  const bool has_newest = end > position;
  const int cells = Rows::cells(p.dim), scales = Rows::scales(p.dim), piece = Rows::piece(p.dim);

  uint8_t* ring = shared + warp * kStages * kStage;
  const Heads heads{shared + kRings};
  const int step = kKeys * kWarps, first = begin + kKeys * warp;
  int page = pages[min(first, position) / kPageTokens];  // of the next copy
  auto copy = [&](int key, int stage) {
    if (key < end) {
      const size_t at = (size_t(page) * p.kv_heads + kv_head) * piece;
      page = pages[min(key + step, position) / kPageTokens];
      // Of the newest key nothing is in the cache yet: zeros.
      Cells::load(ring + stage * kStage, static_cast<const uint8_t*>(p.k_cache) + at, static_cast<const uint8_t*>(p.v_cache) + at, key % kPageTokens,
                  min(end, position) - key, p.dim, lane);
    }
    copy_async_commit();
  };
#pragma unroll
  for (int s = 0; s < kStages; ++s) copy(first + s * step, s);
  wait_previous();
  heads.template fill<kWarps>(p, row, kv_head, head0, rows, has_newest, warp, lane);
  __syncthreads();

  typename Cells::Queries tile;
  tile.begin();
  tile.position = position;
  tile.load_q(heads.query(min(g, rows - 1)), heads.query(min(g + 8, rows - 1)), p.dim, t);
  int stage = 0;
  for (int key = first; key < end; key += step) {
    copy_async_wait<kStages - 1>();
    __syncwarp();
    uint8_t* codes = ring + stage * kStage;
    if (key + kKeys > position) {  // the newest cell, to its place here and in the cache
      const int at = position - key, token = position % kPageTokens;
      const size_t page_at = (size_t(pages[position / kPageTokens]) * p.kv_heads + kv_head) * piece;
      const bool writes = head0 == kv_head * group;  // of several blocks with heads of this KV head
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
  using Turn = typename Cells::Turn;
  merge_block<Turn>(p, sums, cut.parts, row, head0, rows);
}

}  // namespace exllama
