// Attention over a quantised KV cache (kv_cells.cuh): the kernels of attention.cu with codes instead of fp16. With q4
// queries come rotated, and what is gathered is turned back before it is written.
//
//   prefill  A tile of codes is unpacked to fp16 in shared memory by the whole block and used by its four
//            warps; while they do, the next tile's codes arrive.
//   decode   attention_step.cuh; codes are unpacked into fragments, see attention_codes.cuh: q8's scales multiply
//            scores and probabilities, q4's the codes.
// Limits     dim % 8 == 0, dim <= 256 (padded to 64, 96, 128, 192 or 256); 64 KB of shared memory
// Reference  attention_ref over the cache that dequantize_kv makes of this one
#include "attention_codes.cuh"
#include "attention_rings.cuh"
#include "attention_step.cuh"

namespace exllama {

/// A head's four neighbouring dims per lane, turned back.
struct TurnBack {
  __device__ __forceinline__ void operator()(float4& v, int dim) const {
    float four[4] = {v.x, v.y, v.z, v.w};
    rotate_cells(four, threadIdx.x % kWarp, rotation_block(dim));
    v = make_float4(four[0], four[1], four[2], four[3]);
  }
};
template <int kBits>
struct TurnOf {
  using Type = AsGathered;
};
template <>
struct TurnOf<4> {
  using Type = TurnBack;
};

/// The same for a row of a prompt: dims 8 j + 2 t + {0, 1} are out[j][2 h + {0, 1}].
template <int kDim>
__device__ __forceinline__ void turn_rows_back(float (&out)[kDim / 8][4], int dim, int t) {
  const int block = rotation_block(dim);
  const float norm = 1.f / sqrtf(static_cast<float>(block));
#pragma unroll
  for (int j = 0; j < kDim / 8; ++j) {
#pragma unroll
    for (int h = 0; h < 4; h += 2) {
      const float a = out[j][h] * norm, b = out[j][h + 1] * norm;
      out[j][h] = a + b, out[j][h + 1] = a - b;
    }
#pragma unroll
    for (int step = 1; step < 4; step *= 2)  // block >= 8
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float other = __shfl_xor_sync(0xffffffffu, out[j][i], step);
        out[j][i] = t & step ? other - out[j][i] : out[j][i] + other;
      }
  }
#pragma unroll
  for (int step = 1; step < 16; step *= 2) {
    if (8 * step >= block) break;
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      if ((j & step) != 0 || j + step >= kDim / 8) continue;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float a = out[j][i], b = out[j + step][i];
        out[j][i] = a + b, out[j + step][i] = a - b;
      }
    }
  }
}

/// Where a (page, kv_head) begins.
template <int kBits>
__device__ __forceinline__ size_t piece_at(const AttentionParams& p, const int32_t* pages, int key, int kv_head) {
  return (size_t(pages[key / kPageTokens]) * p.kv_heads + kv_head) * CodeRows<kBits>::piece(p.dim);
}

template <int kBits, int kDim>
struct CodePrefill {
  static constexpr int kWarps = 4;
  static constexpr int kKeys = kDim <= 128 ? 64 : kDim <= 192 ? 32 : 16;
  static constexpr int kCodes = CodeTile<kDim * kBits / 128>::bytes(kKeys);
  static constexpr int kScales = kKeys * 2 * (kBits == 8 ? 1 : kDim / 32);
  static constexpr int kHalves = HeadTile<kDim>::bytes(kKeys);
  static constexpr int kShared = 2 * (kHalves + kCodes + kScales);  // of k and v
  static_assert(kShared <= 65536);
};

template <int kBits, int kDim>
__device__ __forceinline__ void prefill_codes(const AttentionParams& p) {
  using Sizes = CodePrefill<kBits, kDim>;
  using Codes = CodeTile<kDim * kBits / 128>;
  constexpr int kKeys = Sizes::kKeys, kThreads = Sizes::kWarps * kWarp;
  extern __shared__ __align__(128) uint8_t shared[];
  uint8_t *k_tile = shared, *v_tile = k_tile + Sizes::kHalves;
  uint8_t *k_codes = v_tile + Sizes::kHalves, *v_codes = k_codes + Sizes::kCodes;
  uint8_t *k_scales = v_codes + Sizes::kCodes, *v_scales = k_scales + Sizes::kScales;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int head = blockIdx.x, kv_head = head / (p.heads / p.kv_heads);
  allow_next();
  wait_previous();
  const int2 span = half_tile(p);
  if (span.y <= 0) return;
  const int first_position = p.positions[span.x], last_position = p.positions[span.x + span.y - 1];
  const int row0 = span.x + 16 * warp, rows = min(16, span.y - 16 * warp);
  const int32_t* pages = p.pages + size_t(p.sequence[span.x]) * p.max_pages;
  const int begin = p.window == 0 ? 0 : max(0, first_position + 1 - p.window) / kKeys * kKeys;
  const int cells = CodeRows<kBits>::cells(p.dim), scales = CodeRows<kBits>::scales(p.dim);

  auto copy = [&](int key0) {
    if (key0 <= last_position) {
      const size_t piece = piece_at<kBits>(p, pages, key0, kv_head);
      const int token = key0 % kPageTokens, there = last_position + 1 - key0;
      const uint8_t *k = static_cast<const uint8_t*>(p.k_cache) + piece, *v = static_cast<const uint8_t*>(p.v_cache) + piece;
      Codes::template load<kKeys, kThreads>(k_codes, k + token * cells * 16, there, cells, threadIdx.x);
      Codes::template load<kKeys, kThreads>(v_codes, v + token * cells * 16, there, cells, threadIdx.x);
      const int of_token = kPageTokens * cells * 16 + token * scales * 2;
      load_scales<kKeys>(k_scales, k + of_token, there, scales, threadIdx.x);
      load_scales<kKeys>(v_scales, v + of_token, there, scales, threadIdx.x);
    }
    copy_async_commit();
  };
  copy(begin);

  // Positions of a tile are consecutive.
  const int warp_first = first_position + 16 * warp, warp_last = warp_first + rows - 1;
  QueryRows<kDim, 1> tile;
  tile.begin();
  tile.position = warp_first + g;
  const __half* q = p.q + (size_t(row0 + g) * p.heads + head) * p.dim;
  tile.load_q(g < rows ? q : nullptr, g + 8 < rows ? q + size_t(8) * p.heads * p.dim : nullptr, p.dim, t);
  for (int key0 = begin; key0 <= last_position; key0 += kKeys) {
    copy_async_wait<0>();
    __syncthreads();  // the codes have landed, and nobody reads the tile before any more
    expand_tile<kBits, kDim, false, kKeys, kThreads>(k_tile, k_codes, reinterpret_cast<const __half*>(k_scales), p.dim, threadIdx.x);
    expand_tile<kBits, kDim, true, kKeys, kThreads>(v_tile, v_codes, reinterpret_cast<const __half*>(v_scales), p.dim, threadIdx.x);
    __syncthreads();
    copy(key0 + kKeys);
    if (rows <= 0 || key0 > warp_last || (p.window != 0 && key0 + kKeys <= warp_first + 1 - p.window)) continue;
    const bool masked = key0 + kKeys - 1 > warp_first || (p.window != 0 && key0 <= warp_first + 15 - p.window);
    tile.template step<kKeys>(k_tile, v_tile, key0, masked, p.window, p.dim, p.scale, lane);
  }
  tile.finish();
  if constexpr (kBits == 4) turn_rows_back<kDim>(tile.out, p.dim, t);
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
template <int kSize, int kDim, bool kWide = kWideDecode && kDim <= 192>
struct CodeCells {
  static constexpr int kBits = kSize, kWarps = kDim <= 128 ? 4 : 2, kKeys = kWide ? 32 : 16;
  static constexpr int kStages = kBits == 8 ? 3 : kWide ? 5 : 4;
  using Tile = CodeTile<kDim * kBits / 128>;
  using Queries = CodeQueries<kBits, kDim>;
  using Turn = typename TurnOf<kBits>::Type;
  static constexpr int kTile = Tile::bytes(kKeys), kScales = 2 * kKeys * (kBits == 8 ? 1 : kDim / 32);

  __device__ __forceinline__ static void load(uint8_t* to, const uint8_t* keys, const uint8_t* values, int token, int there, int dim, int lane) {
    const int cells = CodeRows<kBits>::cells(dim), scales = CodeRows<kBits>::scales(dim);
    Tile::template load<kKeys, kWarp>(to, keys + token * cells * 16, there, cells, lane);
    Tile::template load<kKeys, kWarp>(to + kTile, values + token * cells * 16, there, cells, lane);
    const int of_token = kPageTokens * cells * 16 + token * scales * 2;
    load_scales<kKeys>(to + 2 * kTile, keys + of_token, there, scales, lane);
    load_scales<kKeys>(to + 2 * kTile + kScales, values + of_token, there, scales, lane ^ 16);
  }

  /// From sixteen rows of shared memory; those that are not there hold anything.
  __device__ __forceinline__ static void load_q(Queries& rows, const __half* q, int pitch, int dim, int lane) {
    rows.load_q(q + lane / 4 * pitch, q + (lane / 4 + 8) * pitch, dim, lane % 4);
  }

  __device__ __forceinline__ static void step(Queries& rows, const uint8_t* at, int key0, bool masked, int window, int dim, float scale, int lane) {
    const __half* of_keys = reinterpret_cast<const __half*>(at + 2 * kTile);
    rows.template step<kKeys>(at, at + kTile, of_keys, of_keys + kScales / 2, key0, masked, window, dim, scale, lane);
  }
};

}  // namespace exllama

// kDim is dim rounded up to one of these. Grids, blocks and shared memory as for attention.cu: attention-launch.ts.
#define EXLLAMA_ATTENTION_CODES(BITS, DIM, BLOCKS)                                                                \
  extern "C" __global__ void __launch_bounds__(128, BLOCKS < 2 ? 1 : 2) attention_prefill_q##BITS##_d##DIM(                  \
      const __grid_constant__ exllama::AttentionParams p) {                                                       \
    exllama::prefill_codes<BITS, DIM>(p);                                                                         \
  }                                                                                                               \
  extern "C" __global__ void __launch_bounds__(exllama::CodeCells<BITS, DIM>::kWarps * 32, BLOCKS)                \
      attention_decode_q##BITS##_d##DIM(const __grid_constant__ exllama::AttentionStepParams p) {                \
    exllama::decode_rows<exllama::CodeCells<BITS, DIM>, DIM>(p);                                                  \
  }
EXLLAMA_ATTENTION_CODES(8, 64, 3)
EXLLAMA_ATTENTION_CODES(8, 96, 2)
EXLLAMA_ATTENTION_CODES(8, 128, 2)
EXLLAMA_ATTENTION_CODES(8, 192, 1)
EXLLAMA_ATTENTION_CODES(8, 256, 1)
EXLLAMA_ATTENTION_CODES(4, 64, 3)
EXLLAMA_ATTENTION_CODES(4, 96, 2)
EXLLAMA_ATTENTION_CODES(4, 128, 2)
EXLLAMA_ATTENTION_CODES(4, 192, 1)
EXLLAMA_ATTENTION_CODES(4, 256, 1)
