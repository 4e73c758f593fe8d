// Where keys and values lie in the paged cache, and how a warp writes one head of one token there.
//
// Layout     A (page, kv_head) has a piece of its own, keys and values alike:
//            f16  [256][dim] f16
//            q8   [256][16 ceil(dim / 16)] bytes, code + 128; then [256] f16 scales
//            q4   [256][16 ceil(dim / 32)] bytes, code + 8 in four bits each; then
//                 [256][ceil(dim / 32)] f16 scales, one for every 32 dims
//            value = code * scale. The order of a 4-bit row is the one that a tensor core's fragments
//            are unpacked from: in each 8 dims of a key, dims 2i, 2i + 1 are nibbles i, i + 4; a
//            value's dims follow each other.
// Rotation   q4 first turns every head (queries too) by a Hadamard matrix over blocks of 2^n <= 128 dims, the
//            largest that divides dim: no dim stands out then, and scores stay what they were. What
//            attention gathers from values is turned back, the matrix is its own inverse.
// Registers  Lane l of a warp holds dims 128 r + 4 l + {0..3} of the head in v[r]; zeros beyond dim.
#pragma once

#include "common.cuh"

namespace exllama {

struct RopeKvParams {
  __half* q;                 // [m, heads * dim], rotated in place
  const __half* k;           // [m, kv_heads * dim]
  const __half* v;
  const __half* q_norm;      // [dim] or null
  const __half* k_norm;
  const float2* table;       // [m, dim / 2]
  const int32_t* positions;  // [m]; -1: skip
  const int32_t* sequence;   // [m] row of the page table
  const int32_t* pages;      // [sequences, max_pages]
  __half* k_cache;           // [pages, kv_heads, 256, dim]
  __half* v_cache;
  int32_t heads, kv_heads, dim, max_pages;
  float eps;
  int32_t unused;
};
static_assert(sizeof(RopeKvParams) == 112);

/// Sizes of a quantised piece of the cache.
template <int kBits>
struct CodeRows {
  static_assert(kBits == 8 || kBits == 4);
  static constexpr int kCellDims = 128 / kBits;  // of 16 bytes

  /// 16-byte cells of one token.
  __device__ __forceinline__ static int cells(int dim) { return (dim + kCellDims - 1) / kCellDims; }
  /// Scales of one token.
  __device__ __forceinline__ static int scales(int dim) { return kBits == 8 ? 1 : (dim + 31) / 32; }
  /// Bytes of a (page, kv_head).
  __device__ __forceinline__ static int piece(int dim) { return kPageTokens * (16 * cells(dim) + 2 * scales(dim)); }
};

/// Dims that are rotated together.
__device__ __forceinline__ int rotation_block(int dim) { return min(128, dim & -dim); }

/// Turns the blocks of a row whose four dims per lane follow each other over the lanes of a warp; all lanes must come.
__device__ __forceinline__ void rotate_cells(float (&v)[4], int lane, int block) {
  const float a = v[0] + v[1], b = v[0] - v[1], c = v[2] + v[3], d = v[2] - v[3];
  v[0] = a + c, v[1] = b + d, v[2] = a - c, v[3] = b - d;
  for (int step = 1; 4 * step < block; step *= 2)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float other = __shfl_xor_sync(0xffffffffu, v[i], step);
      v[i] = lane & step ? other - v[i] : v[i] + other;
    }
  const float norm = 1.f / sqrtf(static_cast<float>(block));
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] *= norm;
}

/// One head of one token in a warp's registers.
struct HeadRow {
  float v[2][4];

  __device__ __forceinline__ void load(const __half* x, int dim, int lane) {
#pragma unroll
    for (int r = 0; r < 2; ++r) four(x, 128 * r + 4 * lane, dim, v[r]);
  }

  /// The same after the norm over the head (`norm` may be null) and RoPE's rotation by `table` [dim / 2].
  __device__ __forceinline__ void load_turned(const __half* x, const __half* norm, float eps, const float2* table, int dim, int lane) {
    load(x, dim, lane);
    const int half_dim = dim / 2;
    float scale = 1.f;
    if (norm != nullptr) {
      float squares = 0.f;
#pragma unroll
      for (int r = 0; r < 2; ++r)
#pragma unroll
        for (int i = 0; i < 4; ++i) squares += v[r][i] * v[r][i];
      scale = rsqrtf(warp_sum(squares) / static_cast<float>(dim) + eps);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int d = 128 * r + 4 * lane;
      if (d >= dim) continue;
      const bool lower = d < half_dim;
      const int partner = lower ? d + half_dim : d - half_dim, pair = lower ? d : partner;
      float other[4];
      four(x, partner, dim, other);
      if (norm != nullptr) {
        float weight[4];
        four(norm, d, dim, weight);
#pragma unroll
        for (int i = 0; i < 4; ++i) v[r][i] *= scale * weight[i];
        four(norm, partner, dim, weight);
#pragma unroll
        for (int i = 0; i < 4; ++i) other[i] *= scale * weight[i];
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 turn = table[pair + i];
        v[r][i] = lower ? v[r][i] * turn.x - other[i] * turn.y : v[r][i] * turn.x + other[i] * turn.y;
      }
    }
  }

  __device__ __forceinline__ void rotate(int dim, int lane) {
    const int block = rotation_block(dim);
    rotate_cells(v[0], lane, block);
    if (dim > 128) rotate_cells(v[1], lane, block);
  }

  /// To `y` [dim]; nobody may read what lies there any more.
  __device__ __forceinline__ void store_half(__half* y, int dim, int lane) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int d = 128 * r + 4 * lane;
      if (d >= dim) continue;
      const __half2 pairs[2] = {__floats2half2_rn(v[r][0], v[r][1]), __floats2half2_rn(v[r][2], v[r][3])};
      *reinterpret_cast<uint2*>(y + d) = *reinterpret_cast<const uint2*>(pairs);
    }
  }

  /// To place `token` (0 .. 255) of a (page, kv_head).
  __device__ __forceinline__ void store_q8(uint8_t* piece, int token, int dim, int lane) const {
    const int row = 16 * CodeRows<8>::cells(dim);
    float largest = 0.f;
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int i = 0; i < 4; ++i) largest = fmaxf(largest, fabsf(v[r][i]));
    const __half scale = __float2half_rn(warp_max(largest) * (1.f / 127.f));
    const float inverse = __half2float(scale) > 0.f ? 1.f / __half2float(scale) : 0.f;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int d = 128 * r + 4 * lane;
      if (d >= row) continue;
      uint32_t codes = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) codes |= static_cast<uint32_t>(min(max(__float2int_rn(v[r][i] * inverse), -127), 127) + 128) << 8 * i;
      *reinterpret_cast<uint32_t*>(piece + token * row + d) = codes;
    }
    if (lane == 0) reinterpret_cast<__half*>(piece + kPageTokens * row)[token] = scale;
  }

  /// The same in four bits; rotated before.
  template <bool kIsValue>
  __device__ __forceinline__ void store_q4(uint8_t* piece, int token, int dim, int lane) const {
    const int row = 16 * CodeRows<4>::cells(dim), groups = CodeRows<4>::scales(dim);
    __half* scales = reinterpret_cast<__half*>(piece + kPageTokens * row) + token * groups;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (128 * r >= dim) break;
      const __half scale = __float2half_rn(scale_of_group(v[r]));
      const float inverse = __half2float(scale) != 0.f ? 1.f / __half2float(scale) : 0.f;
      uint32_t codes[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) codes[i] = static_cast<int>(code_of_4(v[r][i] * inverse)) + 8;
      const int d = 128 * r + 4 * lane;
      if constexpr (kIsValue) {
        if (d / 2 < row) *reinterpret_cast<uint16_t*>(piece + token * row + d / 2) = codes[0] | codes[1] << 4 | codes[2] << 8 | codes[3] << 12;
      } else {
        const uint32_t mine = codes[0] | codes[2] << 4 | codes[1] << 16 | codes[3] << 20;
        const uint32_t next = __shfl_xor_sync(0xffffffffu, mine, 1);
        if (d / 2 < row && lane % 2 == 0) *reinterpret_cast<uint32_t*>(piece + token * row + d / 2) = mine | next << 8;
      }
      if (lane % 8 == 0 && d / 32 < groups) scales[d / 32] = scale;
    }
  }

 private:
  __device__ __forceinline__ static float code_of_4(float x) { return fminf(fmaxf(rintf(x), -8.f), 7.f); }

  /// The scale of 32 dims in eight lanes. The outermost number becomes about -8, the one code whose negative is none;
  /// of seven such scales, each then moved to where its own codes fit best, the one that leaves the smallest
  /// squares. Half the cost in perplexity of the first guess.
  __device__ __forceinline__ static float scale_of_group(const float (&x)[4]) {
    float most = fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3])), least = fminf(fminf(x[0], x[1]), fminf(x[2], x[3]));
#pragma unroll
    for (int step = 1; step < 8; step *= 2) {
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
      least = fminf(least, __shfl_xor_sync(0xffffffffu, least, step));
    }
    const float outermost = most > -least ? most : least;
    const float inverse = outermost != 0.f ? -1.f / outermost : 0.f;
    float best = 0.f, scale = 0.f;
#pragma unroll
    for (int guess = 0; guess < 7; ++guess) {
      float products = 0.f, squares = 0.f;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float code = code_of_4(x[i] * (inverse * (6.5f + 0.5f * guess)));
        products += x[i] * code, squares += code * code;
      }
#pragma unroll
      for (int step = 1; step < 8; step *= 2) {
        products += __shfl_xor_sync(0xffffffffu, products, step);
        squares += __shfl_xor_sync(0xffffffffu, squares, step);
      }
      // What is left is sum(x^2) - products^2 / squares.
      const float fit = products / fmaxf(squares, 1.f);
      if (fit * products > best) best = fit * products, scale = fit;
    }
    return scale;
  }

  __device__ __forceinline__ static void four(const __half* x, int d, int dim, float (&to)[4]) {
    uint2 cell = make_uint2(0, 0);
    if (d < dim) cell = *reinterpret_cast<const uint2*>(x + d);
    const float2 a = __half22float2(*reinterpret_cast<const __half2*>(&cell.x)), b = __half22float2(*reinterpret_cast<const __half2*>(&cell.y));
    to[0] = a.x, to[1] = a.y, to[2] = b.x, to[3] = b.y;
  }
};

}  // namespace exllama
