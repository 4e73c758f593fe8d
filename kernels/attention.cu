// Attention over the paged KV cache: softmax(q k^T / sqrt(dim)) v, causal, optionally windowed.
//
// attention_prefill_d*, attention_decode_d* (launched as src/backend/cuda/attention/attention-launch.ts says)
//   Strategy   A warp works on 16 rows of queries against tiles of keys that cp.async brings to
//              shared memory, see attention_rows.cuh.
//     prefill  64 consecutive tokens of one sequence and head: four warps share tiles of 64 keys, two stages.
//     decode   attention_step.cuh
//   Limits     dim % 8 == 0, dim <= 256 (padded to 64, 80, 96, 128, 192 or 256); Turing: 64 KB of shared memory
// Layout     k, v: f16 of kv_cells.cuh; q, y: [m][heads][dim] f16, may be the same. Quantised caches: attention_quantized.cu
// Reference  attention_ref
#include "attention_rings.cuh"
#include "attention_rows.cuh"
#include "attention_step.cuh"

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
  const int2 span = half_tile(p);
  if (span.y <= 0) return;
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
  const __half* q = p.q + (size_t(row0 + g) * p.heads + head) * p.dim;
  tile.load_q(g < rows ? q : nullptr, g + 8 < rows ? q + size_t(8) * p.heads * p.dim : nullptr, p.dim, t);
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

/// Cells of decode_rows().
template <int kDim>
struct HalfCells {
  static constexpr int kBits = 16, kWarps = kDim <= 128 ? 4 : 2, kKeys = 16;
  static constexpr int kStages = kHalfStages;
  using Tile = HeadTile<kDim>;
  using Queries = QueryRows<kDim, 0>;
  using Turn = AsGathered;
  static constexpr int kTile = Tile::bytes(kKeys), kScales = 0;

  __device__ __forceinline__ static void load(uint8_t* to, const uint8_t* keys, const uint8_t* values, int token, int there, int dim, int lane) {
    Tile::template load<kKeys, kWarp>(to, reinterpret_cast<const __half*>(keys) + token * dim, there, dim, lane);
    Tile::template load<kKeys, kWarp>(to + kTile, reinterpret_cast<const __half*>(values) + token * dim, there, dim, lane);
  }

  /// From sixteen rows of shared memory; those that are not there hold anything.
  __device__ __forceinline__ static void load_q(Queries& rows, const __half* q, int pitch, int dim, int lane) {
    if constexpr (Queries::kKeepQ) {
#pragma unroll
      for (int b = 0; b < kDim / 16; ++b) load_matrix_x4(rows.q[b], q + lane % 16 * pitch + 16 * b + lane / 16 * 8);
    } else {
      rows.load_q(q + lane / 4 * pitch, q + (lane / 4 + 8) * pitch, dim, lane % 4);
    }
  }

  __device__ __forceinline__ static void step(Queries& rows, const uint8_t* at, int key0, bool masked, int window, int dim, float scale, int lane) {
    rows.template step<kKeys>(at, at + kTile, key0, masked, window, dim, scale, lane);
  }
};

}  // namespace exllama

// kDim is dim rounded up to one of these. Dynamic shared memory in bytes: attention-launch.ts.
// prefill: grid (heads, 2 tiles), block 128.
// decode: grid (splits, kv_heads * ceil(group / 16), m), block 128, or 64 beyond 128 dims. Before p.partial lies
// a u32 for each of the grid's (y, z), zero before the first launch.
#define EXLLAMA_ATTENTION_ROWS(DIM, BLOCKS)                                                                       \
  extern "C" __global__ void __launch_bounds__(128, BLOCKS) attention_prefill_d##DIM(                             \
      const __grid_constant__ exllama::AttentionParams p) {                                                       \
    exllama::prefill_rows<DIM>(p);                                                                             \
  }                                                                                                               \
  extern "C" __global__ void __launch_bounds__(exllama::HalfCells<DIM>::kWarps * 32, BLOCKS) attention_decode_d##DIM( \
      const __grid_constant__ exllama::AttentionStepParams p) {                                                   \
    exllama::decode_rows<exllama::HalfCells<DIM>, DIM>(p);                                                        \
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
