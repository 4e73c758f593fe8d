// Attention over the paged KV cache: softmax(q k^T / sqrt(dim)) v, causal, optionally windowed.
//
// attention_prefill_d*, attention_decode_d* (launched as src/backend/cuda/attention-launch.ts says)
//   Strategy   A warp works on 16 rows of queries against tiles of keys that cp.async brings to
//              shared memory, see attention_rows.cuh.
//     prefill  64 consecutive tokens of one sequence and head: four warps share tiles of 64 keys, two stages.
//     decode   The rows are the query heads that share a KV head (grouped queries read K and V once). Keys
//              are cut into parts over blocks and, inside, over warps, each with a ring of its own. Parts
//              are merged in the order of the warps, then of the parts, by whichever block comes
//              last: the only atomics are integer counters, the bits never differ. Blocks whose keys
//              are all of earlier steps begin to read before the kernel before them has ended.
//   Limits     dim % 8 == 0, dim <= 256 (padded to 64, 80, 96, 128, 192 or 256); 64 KB of shared memory
// Layout     k, v: f16 of kv_cells.cuh; q, y: [m][heads][dim] f16, may be the same. Quantised caches: attention_quantized.cu
// Reference  attention_ref
#include "attention.cuh"
#include "attention_rows.cuh"

namespace exllama {

/// Tiles of keys are copied one ahead of the one in use.
template <int kDim>
struct PrefillTile {
  static constexpr int kWarps = 4;                     // 16 rows each; 8 warps per tile of keys are no faster
  static constexpr int kKeys = kDim <= 128 ? 64 : kDim <= 192 ? 32 : 16;  // 64 KB of shared memory at most: Turing has no more
  static constexpr int kBytes = HeadTile<kDim>::bytes(kKeys);
  static constexpr int kShared = 4 * kBytes;           // two stages of k and v
};

template <int kDim>
__device__ __forceinline__ void prefill_rows(const AttentionParams& p) {
  using Tile = HeadTile<kDim>;
  using Sizes = PrefillTile<kDim>;
  constexpr int kKeys = Sizes::kKeys, kThreads = Sizes::kWarps * kWarp;
  extern __shared__ __align__(128) uint8_t stages[];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int head = blockIdx.x, kv_head = head / (p.heads / p.kv_heads);
  allow_next();
  wait_previous();
  // The longest tiles of all heads first: they decide when the kernel ends.
  const int2 span = p.tiles[gridDim.y - 1 - blockIdx.y];
  const int first_position = p.positions[span.x], last_position = p.positions[span.x + span.y - 1];
  const int row0 = span.x + 16 * warp, rows = min(16, span.y - 16 * warp);
  const int32_t* pages = p.pages + size_t(p.sequence[span.x]) * p.max_pages;
  const __half *keys = static_cast<const __half*>(p.k_cache), *values = static_cast<const __half*>(p.v_cache);
  const int begin = p.window == 0 ? 0 : max(0, first_position + 1 - p.window) / kKeys * kKeys;

  auto copy = [&](int key0, int stage) {
    if (key0 <= last_position) {
      const size_t base = page_base(p, pages, key0, kv_head);
      uint8_t* k_tile = stages + stage * 2 * Sizes::kBytes;
      Tile::template load<kKeys, kThreads>(k_tile, keys + base, last_position + 1 - key0, p.dim, threadIdx.x);
      Tile::template load<kKeys, kThreads>(k_tile + Sizes::kBytes, values + base, last_position + 1 - key0, p.dim, threadIdx.x);
    }
    copy_async_commit();
  };
  copy(begin, 0);

  // Positions of a tile are consecutive.
  const int warp_first = first_position + 16 * warp, warp_last = warp_first + rows - 1;
  QueryRows<kDim, 1> tile;
  tile.begin();
  tile.position = warp_first + g;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const bool there = g + 8 * h < rows;
    tile.load_q(h, there ? p.q + (size_t(row0 + g + 8 * h) * p.heads + head) * p.dim : nullptr, p.dim, t);
  }
  int stage = 0;
  for (int key0 = begin; key0 <= last_position; key0 += kKeys, stage ^= 1) {
    copy_async_wait<0>();
    __syncthreads();  // this stage has landed, and nobody reads the other one any more
    copy(key0 + kKeys, stage ^ 1);
    if (rows <= 0 || key0 > warp_last || (p.window != 0 && key0 + kKeys <= warp_first + 1 - p.window)) continue;
    const bool masked = key0 + kKeys - 1 > warp_first || (p.window != 0 && key0 <= warp_first + 15 - p.window);
    const uint8_t* k_tile = stages + stage * 2 * Sizes::kBytes;
    tile.template step<kKeys>(k_tile, k_tile + Sizes::kBytes, key0, masked, p.window, p.dim, p.scale, lane);
  }
  tile.finish();
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (g + 8 * h >= rows) continue;
    __half* y = p.y + (size_t(row0 + g + 8 * h) * p.heads + head) * p.dim;
    const float inverse = tile.total[h] > 0.f ? 1.f / tile.total[h] : 0.f;
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j)
      if (8 * j < p.dim)
        *reinterpret_cast<__half2*>(y + 8 * j + 2 * t) = __floats2half2_rn(tile.out[j][2 * h] * inverse, tile.out[j][2 * h + 1] * inverse);
  }
}

/// Every warp streams keys of its own through a ring of its own, 16 at a time.
template <int kDim>
struct DecodeRing {
  static constexpr int kWarps = kDim <= 128 ? 4 : 2, kStages = 2;
  static constexpr int kBytes = HeadTile<kDim>::bytes(16);
  static constexpr int kWarpBytes = kStages * 2 * kBytes;
  static constexpr int kShared = kWarps * kWarpBytes;
  static constexpr int kRow = kDim + 2;  // merging: sums, maximum, total
  static_assert(kWarps * 16 * kRow * 4 <= kShared + 4096);
};

template <int kDim>
__device__ __forceinline__ void decode_rows(const AttentionParams& p) {
  using Tile = HeadTile<kDim>;
  using Ring = DecodeRing<kDim>;
  extern __shared__ __align__(128) uint8_t rings[];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int group = p.heads / p.kv_heads, tiles = (group + 15) / 16;
  const int kv_head = blockIdx.y / tiles, head0 = kv_head * group + blockIdx.y % tiles * 16, rows = min(16, kv_head * group + group - head0);
  const int row = blockIdx.z, split = blockIdx.x;
  allow_next();
  // Positions, page tables and the keys of earlier steps are not written by any kernel of this one: only
  // the part with the newest key must wait before it begins to read.
  const int position = p.positions[row];
  const int32_t* pages = p.pages + size_t(p.sequence[row]) * p.max_pages;
  const __half *keys = static_cast<const __half*>(p.k_cache), *values = static_cast<const __half*>(p.v_cache);
  const Split cut(p, position);
  if (position < 0 || split >= cut.parts) {
    wait_previous();
    return;
  }
  const int begin = cut.first + split * cut.each, end = min(begin + cut.each, position + 1);

  uint8_t* ring = rings + warp * Ring::kWarpBytes;
  const int step = 16 * Ring::kWarps, first = begin + 16 * warp;
  auto copy = [&](int key, int stage) {
    if (key < end) {
      const size_t base = page_base(p, pages, key, kv_head);
      uint8_t* k_tile = ring + stage * 2 * Ring::kBytes;
      Tile::template load<16, kWarp>(k_tile, keys + base, end - key, p.dim, lane);
      Tile::template load<16, kWarp>(k_tile + Ring::kBytes, values + base, end - key, p.dim, lane);
    }
    copy_async_commit();
  };
  if (end > position) wait_previous();
#pragma unroll
  for (int s = 0; s < Ring::kStages; ++s) copy(first + s * step, s);
  if (end <= position) wait_previous();

  QueryRows<kDim, 0> tile;
  tile.begin();
  tile.position = position;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const bool there = g + 8 * h < rows;
    tile.load_q(h, there ? p.q + (size_t(row) * p.heads + head0 + g + 8 * h) * p.dim : nullptr, p.dim, t);
  }
  int stage = 0;
  for (int key = first; key < end; key += step) {
    copy_async_wait<Ring::kStages - 1>();
    __syncwarp();
    const uint8_t* k_tile = ring + stage * 2 * Ring::kBytes;
    const bool masked = key + 15 > position || (p.window != 0 && key <= position - p.window);
    tile.template step<16>(k_tile, k_tile + Ring::kBytes, key, masked, p.window, p.dim, p.scale, lane);
    __syncwarp();
    copy(key + Ring::kStages * step, stage);
    stage = stage + 1 == Ring::kStages ? 0 : stage + 1;
  }
  tile.finish();
  copy_async_wait<0>();
  __syncthreads();

  float* merged = reinterpret_cast<float*>(rings);  // [warps][16][kRow]
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (g + 8 * h >= rows) continue;
    float* to = merged + (warp * 16 + g + 8 * h) * Ring::kRow;
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) *reinterpret_cast<float2*>(to + 8 * j + 2 * t) = make_float2(tile.out[j][2 * h], tile.out[j][2 * h + 1]);
    if (t == 0) to[kDim] = tile.highest[h], to[kDim + 1] = tile.total[h];
  }
  __syncthreads();
  const Parts parts(p, gridDim.z, size_t(row) * p.heads + head0);
  __half* y = p.y + (size_t(row) * p.heads + head0) * p.dim;
  for (int i = threadIdx.x; i < rows * p.dim; i += Ring::kWarps * kWarp) {
    const int r = i / p.dim, d = i % p.dim;
    float best = -INFINITY, sum = 0.f, total = 0.f;
#pragma unroll
    for (int w = 0; w < Ring::kWarps; ++w) best = fmaxf(best, merged[(w * 16 + r) * Ring::kRow + kDim]);
#pragma unroll
    for (int w = 0; w < Ring::kWarps; ++w) {
      const float* from = merged + (w * 16 + r) * Ring::kRow;
      const float share = power_of_two(from[kDim] - best);
      sum += share * from[d];
      total += share * from[kDim + 1];
    }
    if (cut.parts == 1) {
      y[i] = __float2half_rn(sum / total);
      continue;
    }
    parts.sums[(size_t(r) * p.splits + split) * p.dim + d] = sum;
    if (d == 0) parts.facts[r * p.splits + split] = make_float2(best, total);
  }
  if (cut.parts > 1 && is_last(reinterpret_cast<uint32_t*>(p.partial) - 1 - (row * gridDim.y + blockIdx.y), cut.parts,
                               reinterpret_cast<uint32_t*>(rings)))
    merge_parts<Ring::kWarps * kWarp>(p, parts, y, rows, cut.parts, reinterpret_cast<float2*>(rings) + 1);
}

}  // namespace exllama

// kDim is dim rounded up to one of these. Dynamic shared memory in bytes: attention-launch.ts.
// prefill: grid (heads, tiles), block 128; tiles of at most 64 rows.
// decode: grid (splits, kv_heads * ceil(group / 16), m), block 128, or 64 beyond 128 dims. Before p.partial lies
// a u32 for each of the grid's (y, z), zero before the first launch.
#define EXLLAMA_ATTENTION_ROWS(DIM, BLOCKS)                                                                       \
  extern "C" __global__ void __launch_bounds__(128, BLOCKS) attention_prefill_d##DIM(                             \
      const __grid_constant__ exllama::AttentionParams p) {                                                       \
    exllama::prefill_rows<DIM>(p);                                                                             \
  }                                                                                                               \
  extern "C" __global__ void __launch_bounds__(exllama::DecodeRing<DIM>::kWarps * 32, BLOCKS) attention_decode_d##DIM( \
      const __grid_constant__ exllama::AttentionParams p) {                                                       \
    exllama::decode_rows<DIM>(p);                                                                                 \
  }
EXLLAMA_ATTENTION_ROWS(64, 3)
EXLLAMA_ATTENTION_ROWS(80, 2)
EXLLAMA_ATTENTION_ROWS(96, 2)
EXLLAMA_ATTENTION_ROWS(128, 2)
EXLLAMA_ATTENTION_ROWS(192, 1)
EXLLAMA_ATTENTION_ROWS(256, 1)
/// One block per (head, row), fp32 throughout. grid (heads, m), block 128.
extern "C" __global__ void attention_ref(const __grid_constant__ exllama::AttentionParams p) {
  using namespace exllama;
  __shared__ float scores[128], best_of[128];
  const int head = blockIdx.x, row = blockIdx.y, position = p.positions[row];
  if (position < 0) return;
  const int kv_head = head / (p.heads / p.kv_heads);
  const __half* q = p.q + (size_t(row) * p.heads + head) * p.dim;
  const int32_t* pages = p.pages + size_t(p.sequence[row]) * p.max_pages;
  const __half *keys = static_cast<const __half*>(p.k_cache), *values = static_cast<const __half*>(p.v_cache);
  const int first = p.window == 0 ? 0 : max(0, position + 1 - p.window);
  auto score = [&](int key) {
    const __half* k = keys + page_base(p, pages, key, kv_head);
    float s = 0.f;
    for (int d = 0; d < p.dim; ++d) s += __half2float(q[d]) * __half2float(k[d]);
    return s * p.scale;
  };
  float best = -INFINITY;
  for (int key = first + threadIdx.x; key <= position; key += blockDim.x) best = fmaxf(best, score(key));
  best_of[threadIdx.x] = best;
  __syncthreads();
  for (int i = 0; i < 128; ++i) best = fmaxf(best, best_of[i]);
  float sum[2] = {}, total = 0.f;  // dims threadIdx.x and threadIdx.x + 128
  for (int key0 = first; key0 <= position; key0 += 128) {
    __syncthreads();
    const int key = key0 + threadIdx.x;
    scores[threadIdx.x] = key <= position ? exp2f(score(key) - best) : 0.f;
    __syncthreads();
    for (int i = 0; i < 128 && key0 + i <= position; ++i) {
      const __half* v = values + page_base(p, pages, key0 + i, kv_head);
      total += scores[i];
      for (int h = 0; h < 2; ++h)
        if (threadIdx.x + 128 * h < p.dim) sum[h] += scores[i] * __half2float(v[threadIdx.x + 128 * h]);
    }
  }
  for (int h = 0; h < 2; ++h)
    if (threadIdx.x + 128 * h < p.dim) p.y[(size_t(row) * p.heads + head) * p.dim + threadIdx.x + 128 * h] = __float2half_rn(sum[h] / total);
}
