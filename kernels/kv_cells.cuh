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
  void* k_cache;             // pieces of every (page, kv_head)
  void* v_cache;
  int32_t heads, kv_heads, dim, max_pages;
  float eps;
  int32_t unused;
};
static_assert(sizeof(RopeKvParams) == 112);

/// Sizes of a piece of the cache: 16 bits are f16 itself, without scales.
template <int kBits>
struct CodeRows {
  static_assert(kBits == 16 || kBits == 8 || kBits == 4);
  static constexpr int kCellDims = 128 / kBits;  // of 16 bytes

  /// 16-byte cells of one token.
  __device__ __forceinline__ static int cells(int dim) { return (dim + kCellDims - 1) / kCellDims; }
  /// Scales of one token.
  __device__ __forceinline__ static int scales(int dim) { return kBits == 16 ? 0 : kBits == 8 ? 1 : (dim + 31) / 32; }
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

/// Four halves of a head from dim `d` on, zeros beyond `dim`.
__device__ __forceinline__ uint2 four_halves(const __half* x, int d, int dim) {
  return d < dim ? *reinterpret_cast<const uint2*>(x + d) : make_uint2(0, 0);
}
__device__ __forceinline__ void widen_four(const uint2& cell, float (&to)[4]) {
  const float2 a = __half22float2(*reinterpret_cast<const __half2*>(&cell.x)), b = __half22float2(*reinterpret_cast<const __half2*>(&cell.y));
  to[0] = a.x, to[1] = a.y, to[2] = b.x, to[3] = b.y;
}

/// Cosines and sines of a lane's dims, [dim / 2] of one token at `table`.
template <int kRows>
struct Turns {
  float2 of[kRows][4];

  __device__ __forceinline__ void load(const float2* table, int dim, int lane) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int d = 128 * r + 4 * lane, pair = d < dim / 2 ? d : d - dim / 2;
      float4 two[2] = {};
      if (d < dim) two[0] = reinterpret_cast<const float4*>(table + pair)[0], two[1] = reinterpret_cast<const float4*>(table + pair)[1];
      of[r][0] = make_float2(two[0].x, two[0].y), of[r][1] = make_float2(two[0].z, two[0].w);
      of[r][2] = make_float2(two[1].x, two[1].y), of[r][3] = make_float2(two[1].z, two[1].w);
    }
  }
};

/// What a lane reads of a head: its own dims and those that RoPE pairs them with. Apart from HeadRow, so that several heads can be under way.
template <int kRows>
struct HeadCells {
  uint2 own[kRows], partner[kRows];

  __device__ __forceinline__ void load(const __half* x, int dim, int lane) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int d = 128 * r + 4 * lane;
      own[r] = four_halves(x, d, dim);
      partner[r] = d < dim ? four_halves(x, d < dim / 2 ? d + dim / 2 : d - dim / 2, dim) : make_uint2(0, 0);
    }
  }
};

/// One head of one token in a warp's registers, at most 128 kRows dims.
template <int kRows>
struct HeadRow {
  float v[kRows][4];

  __device__ __forceinline__ void take(const HeadCells<kRows>& x) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) widen_four(x.own[r], v[r]);
  }

  /// After take(): the norm over the head (`norm` may be null), then RoPE's rotation.
  __device__ __forceinline__ void turn(const HeadCells<kRows>& x, const __half* norm, float eps, const Turns<kRows>& turns, int dim, int lane) {
    float scale = 1.f;
    if (norm != nullptr) {
      float squares = 0.f;
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int i = 0; i < 4; ++i) squares += v[r][i] * v[r][i];
      scale = rsqrtf(warp_sum(squares) / static_cast<float>(dim) + eps);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int d = 128 * r + 4 * lane;
      if (d >= dim) continue;
      const bool lower = d < dim / 2;
      float other[4];
      widen_four(x.partner[r], other);
      if (norm != nullptr) {
        float weight[4];
        widen_four(four_halves(norm, d, dim), weight);
#pragma unroll
        for (int i = 0; i < 4; ++i) v[r][i] *= scale * weight[i];
        widen_four(four_halves(norm, lower ? d + dim / 2 : d - dim / 2, dim), weight);
#pragma unroll
        for (int i = 0; i < 4; ++i) other[i] *= scale * weight[i];
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 turn = turns.of[r][i];
        v[r][i] = lower ? v[r][i] * turn.x - other[i] * turn.y : v[r][i] * turn.x + other[i] * turn.y;
      }
    }
  }

  __device__ __forceinline__ void rotate(int dim, int lane) {
    const int block = rotation_block(dim);
#pragma unroll
    for (int r = 0; r < kRows; ++r) rotate_cells(v[r], lane, block);
  }

  /// As the cache has it: the cells of one token, and its scales.
  template <int kBits, bool kIsValue>
  __device__ __forceinline__ void store(void* cells, __half* scales, int dim, int lane) const {
    if constexpr (kBits == 16) store_half(static_cast<__half*>(cells), dim, lane);
    else if constexpr (kBits == 8) store_q8(static_cast<uint8_t*>(cells), scales, dim, lane);
    else store_q4<kIsValue>(static_cast<uint8_t*>(cells), scales, dim, lane);
  }

  /// To `y` [dim]; nobody may read what lies there any more.
  __device__ __forceinline__ void store_half(__half* y, int dim, int lane) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int d = 128 * r + 4 * lane;
      if (d >= dim) continue;
      const __half2 pairs[2] = {__floats2half2_rn(v[r][0], v[r][1]), __floats2half2_rn(v[r][2], v[r][3])};
      *reinterpret_cast<uint2*>(y + d) = *reinterpret_cast<const uint2*>(pairs);
    }
  }

 private:
  __device__ __forceinline__ void store_q8(uint8_t* cells, __half* scales, int dim, int lane) const {
    const int row = 16 * CodeRows<8>::cells(dim);
    float largest = 0.f;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int i = 0; i < 4; ++i) largest = fmaxf(largest, fabsf(v[r][i]));
    const __half scale = __float2half_rn(warp_max(largest) * (1.f / 127.f));
    const float inverse = __half2float(scale) > 0.f ? 1.f / __half2float(scale) : 0.f;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int d = 128 * r + 4 * lane;
      if (d >= row) continue;
      uint32_t codes = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) codes |= static_cast<uint32_t>(min(max(__float2int_rn(v[r][i] * inverse), -127), 127) + 128) << 8 * i;
      *reinterpret_cast<uint32_t*>(cells + d) = codes;
    }
    if (lane == 0) *scales = scale;
  }

  /// Rotated before.
  template <bool kIsValue>
  __device__ __forceinline__ void store_q4(uint8_t* cells, __half* scales, int dim, int lane) const {
    const int row = 16 * CodeRows<4>::cells(dim), groups = CodeRows<4>::scales(dim);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (128 * r >= dim) break;
      const __half scale = __float2half_rn(scale_of_group(v[r]));
      const float inverse = __half2float(scale) != 0.f ? 1.f / __half2float(scale) : 0.f;
      uint32_t codes[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) codes[i] = static_cast<int>(code_of_4(v[r][i] * inverse)) + 8;
      const int d = 128 * r + 4 * lane;
      if constexpr (kIsValue) {
        if (d / 2 < row) *reinterpret_cast<uint16_t*>(cells + d / 2) = codes[0] | codes[1] << 4 | codes[2] << 8 | codes[3] << 12;
      } else {
        const uint32_t mine = codes[0] | codes[2] << 4 | codes[1] << 16 | codes[3] << 20;
        const uint32_t next = __shfl_xor_sync(0xffffffffu, mine, 1);
        if (d / 2 < row && lane % 2 == 0) *reinterpret_cast<uint32_t*>(cells + d / 2) = mine | next << 8;
      }
      if (lane % 8 == 0 && d / 32 < groups) scales[d / 32] = scale;
    }
  }

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
};

}  // namespace exllama
