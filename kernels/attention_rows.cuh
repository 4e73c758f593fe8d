// Sixteen rows of queries against a tile of keys in shared memory: what a warp of every fast
// attention kernel does, and how such a tile is laid out and copied.
//
// Scores are a product of m16n8k16 fragments (rows x dims by keys x dims), the softmax is online and in
// fp32, probabilities go as fp16 into the second product (rows x keys by keys x dims), whose
// fp32 sums stay in registers. The fragment of scores has the shape of the next product's operand, so
// nothing is exchanged between lanes but maxima and, at the end, totals.
#pragma once

#include "attention.cuh"

namespace exllama {

/// [tokens][dim] fp16 in shared memory. Rows of a multiple of 128 bytes have their 16-byte cells exchanged,
/// other rows are one cell longer (an odd number): either way eight rows hit all banks.
template <int kDim>
struct HeadTile {
  static_assert(kDim % 16 == 0);
  static constexpr int kCells = kDim / 8;
  static constexpr bool kExchange = kCells % 8 == 0;
  static constexpr int kStride = kExchange ? kCells : kCells + 1;
  static constexpr int bytes(int tokens) { return tokens * kStride * 16; }

  __device__ __forceinline__ static int at(int row, int cell) {
    return (row * kStride + (kExchange ? cell ^ (row & 7) : cell)) * 16;
  }

  /// `there` tokens at `from`, where memory goes on to kTokens, by kThreads threads; the rest of kTokens and of kDim become zeros, so that
  /// nothing left over in a page can turn into NaN.
  template <int kTokens, int kThreads>
  __device__ __forceinline__ static void load(uint8_t* tile, const __half* from, int there, int dim, int thread) {
    static_assert(kTokens * kCells % kThreads == 0);
    constexpr int kApart = kThreads / kCells;  // rows between a thread's cells, where it always has the same column
    if constexpr (kThreads % kCells == 0) {
      const int row = thread / kCells, cell = thread % kCells, first = at(row, cell);
      from += row * dim + (cell * 8 < dim ? cell * 8 : 0);
      there = cell * 8 < dim ? there - row : 0;
#pragma unroll
      for (int i = 0; i < kTokens / kApart; ++i, from += kApart * dim) {
        // kApart is a power of two and row less: its bits are those that row has not.
        const int place = kExchange ? first ^ (i * kApart % 8 * 16) : first;
        copy_async_16(tile + place + i * kApart * kStride * 16, from, i * kApart < there);
      }
    } else {
      constexpr int kUnroll = kDim <= 128 ? kTokens * kCells / kThreads : 2;  // registers are dear beyond
#pragma unroll kUnroll
      for (int i = 0; i < kTokens * kCells / kThreads; ++i) {
        const int row = (thread + i * kThreads) / kCells, cell = (thread + i * kThreads) % kCells;
        const bool valid = row < there && cell * 8 < dim;
        copy_async_16(tile + at(row, cell), valid ? from + row * dim + cell * 8 : from, valid);
      }
    }
  }
};

/// With g = lane / 4, t = lane % 4 this lane has rows g and g + 8, at positions kApart * 8 from each other
/// (1: consecutive tokens, 0: heads of one token). Rows that are not there count like others and are not stored.
template <int kDim, int kApart>
struct QueryRows {
  static constexpr bool kKeepQ = kDim < 192;  // else no registers are left, and q is read again (from L1)
  uint32_t q[kKeepQ ? kDim / 16 : 1][4];
  const __half* q_row[2];      // rows g and g + 8, or null
  float out[kDim / 8][4];      // column tile of 8 dims: row g dims 2t, 2t+1, row g + 8
  float highest[2], total[2];  // scaled to powers of two; `total` of this lane's keys alone until finish()
  int position;                // of row g

  __device__ __forceinline__ void begin() {
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) out[j][i] = 0.f;
    highest[0] = highest[1] = -INFINITY;
    total[0] = total[1] = 0.f;
  }

  __device__ __forceinline__ uint32_t read_q(int which, int d, int dim, int t) const {
    return q_row[which] != nullptr && d < dim ? *reinterpret_cast<const uint32_t*>(q_row[which] + d + 2 * t) : 0u;
  }

  /// @param upper dims of row g, or null
  /// @param lower of row g + 8
  __device__ __forceinline__ void load_q(const __half* upper, const __half* lower, int dim, int t) {
    q_row[0] = upper, q_row[1] = lower;
    if constexpr (kKeepQ) {
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int b = 0; b < kDim / 16; ++b) q[b][h] = read_q(h, 16 * b, dim, t), q[b][h + 2] = read_q(h, 16 * b + 8, dim, t);
    }
  }

  /// kKeys keys from key0 on. `masked`: some row may not see some of them.
  template <int kKeys>
  __device__ __forceinline__ void step(const uint8_t* k_tile, const uint8_t* v_tile, int key0, bool masked, int window, int dim, float scale,
                                       int lane) {
    using Tile = HeadTile<kDim>;
    const int t = lane % 4;
    float s[kKeys / 8][4];
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) s[n][i] = 0.f;
    constexpr int kUnroll = kKeepQ ? kDim / 16 : 2;  // else all of q would be read at once
#pragma unroll kUnroll
    for (int b = 0; b < kDim / 16; ++b) {
      if constexpr (!kKeepQ) {
#pragma unroll
        for (int h = 0; h < 2; ++h) q[0][h] = read_q(h, 16 * b, dim, t), q[0][h + 2] = read_q(h, 16 * b + 8, dim, t);
      }
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        uint32_t k[4];  // keys 0-7 of dims 0-7, of dims 8-15; keys 8-15 likewise
        load_matrix_x4(k, k_tile + Tile::at(n * 16 + lane % 8 + lane / 16 * 8, 2 * b + lane / 8 % 2));
        const uint32_t first[2] = {k[0], k[1]}, second[2] = {k[2], k[3]};
        mma_16x8x16(s[2 * n], q[kKeepQ ? b : 0], first);
        mma_16x8x16(s[2 * n + 1], q[kKeepQ ? b : 0], second);
      }
    }
    if (masked) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = key0 + 8 * n + 2 * t + i % 2, at = position + i / 2 * 8 * kApart;
          if (key > at || (window != 0 && key <= at - window)) s[n][i] = -INFINITY;
        }
    }
    uint32_t p[kKeys / 8][2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float best = s[0][2 * h];
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) best = fmaxf(best, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 1));
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 2));
      best = fmaxf(highest[h], best * scale);
      const float base = best == -INFINITY ? 0.f : best, shrink = power_of_two(highest[h] - base);
      highest[h] = best;
      float sum = 0.f;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
        const float a = power_of_two(fmaf(s[n][2 * h], scale, -base)), b = power_of_two(fmaf(s[n][2 * h + 1], scale, -base));
        sum += a + b;
        const __half2 pair = __floats2half2_rn(a, b);
        p[n][h] = *reinterpret_cast<const uint32_t*>(&pair);
      }
      total[h] = total[h] * shrink + sum;
#pragma unroll
      for (int j = 0; j < kDim / 8; ++j) out[j][2 * h] *= shrink, out[j][2 * h + 1] *= shrink;
    }
#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
      const uint32_t a[4] = {p[2 * n][0], p[2 * n][1], p[2 * n + 1][0], p[2 * n + 1][1]};
#pragma unroll
      for (int j = 0; j < kDim / 16; ++j) {
        uint32_t v[4];  // keys 0-7, 8-15 of dims 0-7, then of dims 8-15
        load_matrix_x4_transposed(v, v_tile + Tile::at(n * 16 + lane % 16, 2 * j + lane / 16));
        const uint32_t first[2] = {v[0], v[1]}, second[2] = {v[2], v[3]};
        mma_16x8x16(out[2 * j], a, first);
        mma_16x8x16(out[2 * j + 1], a, second);
      }
    }
  }

  /// Totals over all keys, in every lane of a row.
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      total[h] += __shfl_xor_sync(0xffffffffu, total[h], 1);
      total[h] += __shfl_xor_sync(0xffffffffu, total[h], 2);
    }
  }

  /// The sums of row g + 8 h to `to` [kDim].
  __device__ __forceinline__ void store(float* to, int h, int t) const {
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) *reinterpret_cast<float2*>(to + 8 * j + 2 * t) = make_float2(out[j][2 * h], out[j][2 * h + 1]);
  }
};

}  // namespace exllama
