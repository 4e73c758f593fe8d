// Keys and values of a quantised cache in shared memory, and what a warp makes of them: decode unpacks codes into the
// fragments of its products as it goes; prompts unpack a tile once, to fp16, for all their rows.
//
// Codes become fp16 by bit operations: 0x6400 | c is 1024 + c. For m16n8k16, with g = lane / 4, t = lane % 4,
// ldmatrix takes a 16-byte cell of eight tokens as an 8 x 8 matrix of 16-bit words:
//   keys    as it is: lane (g, t) has word pair t of key g. q8: dims 4t .. 4t+3 of the cell's 16, one product
//           over 16 dims. q4: dims 8t .. 8t+7 of its 32, two products. q's fragments hold the same dims.
//   values  transposed: lane (g, t) has word g of keys 2t and 2t+1. q8: dims 2g, 2g+1 of the cell, two column
//           tiles (even dims, odd dims). q4: dims 4g .. 4g+3, four tiles. Sums of a lane so belong to
//           consecutive dims: q8 16 c + 4t .. + 3, q4 32 c + 8t .. + 7.
#pragma once

#include "attention_rows.cuh"
#include "kv_cells.cuh"

namespace exllama {

/// Copies `bytes` (0 .. 16) to shared memory; the rest of 16 becomes zeros. All 16 may be read.
__device__ __forceinline__ void copy_async_some(void* shared, const void* global, int bytes) {
#if __CUDA_ARCH__ >= 800
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes));
#else
  for (int i = 0; i < 8; ++i) static_cast<uint16_t*>(shared)[i] = 2 * i < bytes ? static_cast<const uint16_t*>(global)[i] : 0;
#endif
}

/// Two 8 x 8 matrices of 16-bit words from shared memory, one row address for each of the first sixteen lanes.
__device__ __forceinline__ void load_matrix_x2(uint32_t& first, uint32_t& second, const void* shared) {
  const uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(first), "=r"(second) : "r"(from));
}

__device__ __forceinline__ void load_matrix_x2_transposed(uint32_t& first, uint32_t& second, const void* shared) {
  const uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(first), "=r"(second) : "r"(from));
}

/// [tokens][kCells] 16-byte cells in shared memory, exchanged so that eight rows hit all banks.
template <int kCells>
struct CodeTile {
  static constexpr int kCommon = kCells % 8 == 0 ? 8 : kCells % 4 == 0 ? 4 : kCells % 2 == 0 ? 2 : 1;  // with eight
  static constexpr int bytes(int tokens) { return tokens * kCells * 16; }

  __device__ __forceinline__ static int at(int row, int cell) { return (row * kCells + (cell ^ (row / (8 / kCommon)) % kCommon)) * 16; }

  /// `there` of kTokens rows of `cells` cells at `from`, which follow each other, by kThreads threads; the rest become zeros.
  template <int kTokens, int kThreads>
  __device__ __forceinline__ static void load(uint8_t* tile, const uint8_t* from, int there, int cells, int thread) {
    constexpr int kCount = kTokens * kCells;
#pragma unroll
    for (int i = 0; i < (kCount + kThreads - 1) / kThreads; ++i) {
      const int at_cell = thread + i * kThreads, row = at_cell / kCells, cell = at_cell % kCells;
      if (kCount % kThreads != 0 && at_cell >= kCount) break;
      const bool valid = row < there && cell < cells;
      copy_async_16(tile + at(row, cell), valid ? from + (row * cells + cell) * 16 : from, valid);
    }
  }
};

/// The scales of `there` of kTokens tokens, `each` of each, as they lie; the rest become zeros, so that nothing
/// left over in a page can turn into NaN. At most 2 kTokens * each / 16 of the threads have something to do.
template <int kTokens>
__device__ __forceinline__ void load_scales(uint8_t* to, const uint8_t* from, int there, int each, int thread) {
  if (thread >= kTokens * each / 8) return;
  const int bytes = min(max(there * each * 2 - thread * 16, 0), 16);
  copy_async_some(to + thread * 16, from + thread * 16, bytes);
}

constexpr uint32_t kTwo1024 = 0x64006400u;

__device__ __forceinline__ uint32_t subtract_halves(uint32_t a, uint32_t b) {
  const __half2 d = __hsub2(*reinterpret_cast<const __half2*>(&a), *reinterpret_cast<const __half2*>(&b));
  return *reinterpret_cast<const uint32_t*>(&d);
}
__device__ __forceinline__ uint32_t multiply_halves(uint32_t a, uint32_t b) {
  const __half2 d = __hmul2(*reinterpret_cast<const __half2*>(&a), *reinterpret_cast<const __half2*>(&b));
  return *reinterpret_cast<const uint32_t*>(&d);
}

/// Two bytes of `codes` (`select` 0x4140: 0 and 1; 0x4342; 0x4240; 0x4341) as fp16 codes -127 .. 127.
__device__ __forceinline__ uint32_t two_of_8(uint32_t codes, uint32_t select) {
  return subtract_halves(__byte_perm(codes, 0x64646464u, select), 0x64806480u);  // 1024 + 128
}

/// Nibbles i and i + 4 of each word of `codes`, i = 0 .. 3, as fp16 codes -8 .. 7.
__device__ __forceinline__ void pairs_of_4(uint32_t codes, uint32_t (&to)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t w = i < 2 ? codes : codes >> 8;
    if (i % 2 == 0) {
      to[i] = subtract_halves((w & 0x000f000fu) | kTwo1024, 0x64086408u);
    } else {  // 1024 + 16 c
      const uint32_t high = (w & 0x00f000f0u) | kTwo1024, sixteenth = 0x2c002c00u, bias = 0xd480d480u;  // 1 / 16, -72
      const __half2 d = __hfma2(*reinterpret_cast<const __half2*>(&high), *reinterpret_cast<const __half2*>(&sixteenth), *reinterpret_cast<const __half2*>(&bias));
      to[i] = *reinterpret_cast<const uint32_t*>(&d);
    }
  }
}

/// Sixteen rows of queries (heads of one token) against sixteen keys at a time.
template <int kBits, int kDim>
struct CodeQueries {
  static_assert(kDim % 32 == 0);
  using Tile = CodeTile<kDim * kBits / 128>;
  static constexpr int kCells = kDim * kBits / 128;
  static constexpr int kCellDims = CodeRows<kBits>::kCellDims;
  static constexpr int kProducts = kCellDims / 16;   // per cell, of keys
  static constexpr int kColumns = kCellDims / 8;     // column tiles per cell, of values
  static constexpr bool kKeepQ = kDim < 192;         // else no registers are left, and q is read again (from L1)
  /// Values' scales become part of probabilities in fp16 (q8): kept away from its small numbers.
  static constexpr float kLift = 64.f;
  uint32_t q[kKeepQ ? kDim / 16 : kProducts][4];
  const __half* q_row[2];      // rows g and g + 8, or null
  float out[kDim / 8][4];
  float highest[2], total[2];  // `total` of this lane's keys alone until finish()
  int position;

  __device__ __forceinline__ void begin() {
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) out[j][i] = 0.f;
    highest[0] = highest[1] = -INFINITY;
    total[0] = total[1] = 0.f;
  }

  __device__ __forceinline__ void read_q(int cell, int dim, int t, uint32_t (&to)[kProducts][4]) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int d = cell * kCellDims + t * (kCellDims / 4);
      const bool there = q_row[h] != nullptr && d < dim;
      if constexpr (kBits == 8) {
        uint2 w = make_uint2(0, 0);
        if (there) w = *reinterpret_cast<const uint2*>(q_row[h] + d);
        to[0][h] = w.x, to[0][h + 2] = w.y;
      } else {
        uint4 w = make_uint4(0, 0, 0, 0);
        if (there) w = *reinterpret_cast<const uint4*>(q_row[h] + d);
        to[0][h] = w.x, to[0][h + 2] = w.y, to[1][h] = w.z, to[1][h + 2] = w.w;
      }
    }
  }

  __device__ __forceinline__ void load_q(const __half* upper, const __half* lower, int dim, int t) {
    q_row[0] = upper, q_row[1] = lower;
    if constexpr (kKeepQ) {
#pragma unroll
      for (int c = 0; c < kCells; ++c) {
        uint32_t some[kProducts][4];
        read_q(c, dim, t, some);
#pragma unroll
        for (int m = 0; m < kProducts; ++m)
#pragma unroll
          for (int i = 0; i < 4; ++i) q[c * kProducts + m][i] = some[m][i];
      }
    }
  }

  /// kKeys keys from key0 on. `masked`: some of them may not be seen.
  template <int kKeys>
  __device__ __forceinline__ void step(const uint8_t* k_tile, const uint8_t* v_tile, const __half* k_scales, const __half* v_scales, int key0,
                                       bool masked, int window, int dim, float scale, int lane) {
    const int g = lane / 4, t = lane % 4, groups = CodeRows<kBits>::scales(dim);
    constexpr int kTiles = kKeys / 8;
    float s[kTiles][4];
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) s[n][i] = 0.f;
    constexpr int kUnroll = kKeepQ ? kCells : 1;  // else all of q would be read at once
#pragma unroll kUnroll
    for (int c = 0; c < kCells; ++c) {
      if constexpr (!kKeepQ) read_q(c, dim, t, q);
      uint32_t codes[kTiles];  // of eight keys each
#pragma unroll
      for (int n = 0; n < kTiles; n += 2) load_matrix_x2(codes[n], codes[n + 1], k_tile + Tile::at(8 * n + lane % 16, c));
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const int from = kKeepQ ? c * kProducts : 0;
        if constexpr (kBits == 8) {
          const uint32_t b[2] = {two_of_8(codes[n], 0x4140), two_of_8(codes[n], 0x4342)};
          mma_16x8x16(s[n], q[from], b);
        } else {
          const __half2 each = __half2half2(c < groups ? k_scales[(8 * n + g) * groups + c] : __half(0.f));
          uint32_t pairs[4];
          pairs_of_4(codes[n], pairs);
#pragma unroll
          for (int i = 0; i < 4; ++i) pairs[i] = multiply_halves(pairs[i], *reinterpret_cast<const uint32_t*>(&each));
          const uint32_t first[2] = {pairs[0], pairs[1]}, second[2] = {pairs[2], pairs[3]};
          mma_16x8x16(s[n], q[from], first);
          mma_16x8x16(s[n], q[from + kProducts - 1], second);
        }
      }
    }
    if constexpr (kBits == 8) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const float2 of_key = __half22float2(*reinterpret_cast<const __half2*>(k_scales + 8 * n + 2 * t));
        s[n][0] *= of_key.x, s[n][1] *= of_key.y, s[n][2] *= of_key.x, s[n][3] *= of_key.y;
      }
    }
    if (masked) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = key0 + 8 * n + 2 * t + i % 2;
          if (key > position || (window != 0 && key <= position - window)) s[n][i] = -INFINITY;
        }
    }
    uint32_t p[kTiles][2];
    float shrink[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float best = fmaxf(s[0][2 * h], s[0][2 * h + 1]);
#pragma unroll
      for (int n = 1; n < kTiles; ++n) best = fmaxf(best, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 1));
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 2));
      best = fmaxf(highest[h], best * scale);
      const float base = best == -INFINITY ? 0.f : best;
      shrink[h] = power_of_two(highest[h] - base);
      highest[h] = best;
      float sum = 0.f;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        float a = power_of_two(fmaf(s[n][2 * h], scale, -base)), b = power_of_two(fmaf(s[n][2 * h + 1], scale, -base));
        sum += a + b;
        if constexpr (kBits == 8) {
          const float2 of_value = __half22float2(*reinterpret_cast<const __half2*>(v_scales + 8 * n + 2 * t));
          a *= of_value.x * kLift, b *= of_value.y * kLift;
        }
        const __half2 pair = __floats2half2_rn(a, b);
        p[n][h] = *reinterpret_cast<const uint32_t*>(&pair);
      }
      total[h] = total[h] * shrink[h] + sum;
    }
    // Once the largest score has been met nothing shrinks any more, and x * 1 is x.
    if (__any_sync(0xffffffffu, shrink[0] != 1.f || shrink[1] != 1.f)) {
#pragma unroll
      for (int j = 0; j < kDim / 8; ++j) out[j][0] *= shrink[0], out[j][1] *= shrink[0], out[j][2] *= shrink[1], out[j][3] *= shrink[1];
    }
#pragma unroll
    for (int m = 0; m < kTiles; m += 2)
#pragma unroll
      for (int c = 0; c < kCells; ++c) {
      const uint32_t weights[4] = {p[m][0], p[m][1], p[m + 1][0], p[m + 1][1]};
      uint32_t codes[2];  // of eight keys each
      load_matrix_x2_transposed(codes[0], codes[1], v_tile + Tile::at(8 * m + lane % 16, c));
      if constexpr (kBits == 8) {
        const uint32_t even[2] = {two_of_8(codes[0], 0x4240), two_of_8(codes[1], 0x4240)};
        const uint32_t odd[2] = {two_of_8(codes[0], 0x4341), two_of_8(codes[1], 0x4341)};
        mma_16x8x16(out[2 * c], weights, even);
        mma_16x8x16(out[2 * c + 1], weights, odd);
      } else {
        uint32_t pairs[2][4];
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const __half* of_key = v_scales + (8 * (m + n) + 2 * t) * groups + c;
          const __half2 each = c < groups ? __halves2half2(of_key[0], of_key[groups]) : __half2half2(__half(0.f));
          pairs_of_4(codes[n], pairs[n]);
#pragma unroll
          for (int i = 0; i < 4; ++i) pairs[n][i] = multiply_halves(pairs[n][i], *reinterpret_cast<const uint32_t*>(&each));
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const uint32_t both[2] = {pairs[0][i], pairs[1][i]};
          mma_16x8x16(out[4 * c + i], weights, both);
        }
      }
    }
  }

  /// Totals over all keys, in every lane of a row; sums without the lift.
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      total[h] += __shfl_xor_sync(0xffffffffu, total[h], 1);
      total[h] += __shfl_xor_sync(0xffffffffu, total[h], 2);
    }
    if constexpr (kBits == 8) {
#pragma unroll
      for (int j = 0; j < kDim / 8; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) out[j][i] *= 1.f / kLift;
    }
  }

  /// The sums of row g + 8 h to `to` [kDim].
  __device__ __forceinline__ void store(float* to, int h, int t) const {
#pragma unroll
    for (int c = 0; c < kCells; ++c)
#pragma unroll
      for (int i = 0; i < kCellDims / 8; ++i) {
        // Dims kCellDims c + (kCellDims / 4) t + 2i and the next.
        const int first = 2 * i % kColumns, second = first + 1, which = 2 * h + 2 * i / kColumns;
        *reinterpret_cast<float2*>(to + c * kCellDims + t * (kCellDims / 4) + 2 * i) =
            make_float2(out[c * kColumns + first][which], out[c * kColumns + second][which]);
      }
  }
};

/// kTokens rows of codes in shared memory to fp16 in a HeadTile, by kThreads threads.
template <int kBits, int kDim, bool kIsValue, int kTokens, int kThreads>
__device__ __forceinline__ void expand_tile(uint8_t* halves, const uint8_t* codes, const __half* scales, int dim, int thread) {
  using From = CodeTile<kDim * kBits / 128>;
  using To = HeadTile<kDim>;
  constexpr int kCells = kDim * kBits / 128;
  const int groups = CodeRows<kBits>::scales(dim);
#pragma unroll 4
  for (int i = thread; i < kTokens * kCells; i += kThreads) {
    const int row = i / kCells, cell = i % kCells;
    const uint4 words = *reinterpret_cast<const uint4*>(codes + From::at(row, cell));
    const uint32_t word[4] = {words.x, words.y, words.z, words.w};
    const __half2 each = __half2half2(kBits == 8 ? scales[row] : cell < groups ? scales[row * groups + cell] : __half(0.f));
    const uint32_t scale = *reinterpret_cast<const uint32_t*>(&each);
#pragma unroll
    for (int w = 0; w < 4; w += kBits == 8 ? 2 : 1) {  // eight dims, one cell of fp16
      uint32_t to[4];
      if constexpr (kBits == 8) {
        to[0] = two_of_8(word[w], 0x4140), to[1] = two_of_8(word[w], 0x4342);
        to[2] = two_of_8(word[w + 1], 0x4140), to[3] = two_of_8(word[w + 1], 0x4342);
      } else {
        pairs_of_4(word[w], to);
        if constexpr (kIsValue) {  // dims i, i + 4 of eight to their order
          const uint32_t a = to[0], b = to[1], c = to[2], d = to[3];
          to[0] = __byte_perm(a, b, 0x5410), to[1] = __byte_perm(c, d, 0x5410);
          to[2] = __byte_perm(a, b, 0x7632), to[3] = __byte_perm(c, d, 0x7632);
        }
      }
      const int at = kBits == 8 ? 2 * cell + w / 2 : 4 * cell + w;
      *reinterpret_cast<uint4*>(halves + To::at(row, at)) =
          make_uint4(multiply_halves(to[0], scale), multiply_halves(to[1], scale), multiply_halves(to[2], scale), multiply_halves(to[3], scale));
    }
  }
}

}  // namespace exllama
