// What a warp makes of tiles of keys and values in shared memory, [keys][kDim] f16 each: for one query head, or for up to eight that
// share the KV head. Softmax is online and in f32.
#pragma once

#include "attention.cuh"
#include "linear_chain_packets.cuh"

namespace exllama {

/// One query head. Scores are made by tensor cores, sixteen keys being the rows of a tile: 16 bytes of a key are two of a lane's operands as they
/// are, and all columns are the query, so that lanes 4 g + t have the scores of keys g and g + 8 without exchanging anything. What values are
/// added up to is made in f32 by lanes that have eight dims each and read one row after the other.
template <int kDim>
struct OneHead {
  static constexpr int kHeads = 1;
  static constexpr int kKeys = 16;                  // of a step
  static constexpr int kCells = kDim / 8;           // of eight dims, 16 bytes
  static constexpr int kPerLoad = kWarp / kCells;   // values

  uint4 q[kCells / 4];                              // cells 4 i + t
  float out[8], highest, total;                     // of the lane's keys

  __device__ __forceinline__ void begin(const __half* queries, int, int lane) {
#pragma unroll
    for (int i = 0; i < kCells / 4; ++i) q[i] = reinterpret_cast<const uint4*>(queries)[4 * i + lane % 4];
#pragma unroll
    for (int d = 0; d < 8; ++d) out[d] = 0.f;
    highest = -INFINITY, total = 0.f;
  }

  /// Of these kKeys keys `first` to `end` - 1 count; `end` is at least 1.
  __device__ __forceinline__ void step(const void* keys, const void* values, int first, int end, float scale, int lane) {
    const int g = lane / 4, t = lane % 4;
    float s[2][4] = {};  // of keys g and g + 8, in every column
#pragma unroll
    for (int i = 0; i < kCells / 4; ++i) {
      const uint4* const cells = static_cast<const uint4*>(keys) + 4 * i + t;
      const uint4 upper = cells[g * kCells], lower = cells[(g + 8) * kCells];
      multiply(s[0], {upper.x, lower.x, upper.y, lower.y}, q[i].x, q[i].y);
      multiply(s[1], {upper.z, lower.z, upper.w, lower.w}, q[i].z, q[i].w);
    }
    const auto score = [&](int i) { return g + 8 * i >= first && g + 8 * i < end ? (s[0][2 * i] + s[1][2 * i]) * scale : -INFINITY; };
    const float upper = score(0), lower = score(1);
    const float best = fmaxf(highest, over_keys(fmaxf(upper, lower), [](float a, float b) { return fmaxf(a, b); }));
    const float base = best == -INFINITY ? 0.f : best, shrink = power_of_two(highest - base);
    const float shares[2] = {power_of_two(upper - base), power_of_two(lower - base)};
    highest = best, total = total * shrink + (shares[0] + shares[1]);
#pragma unroll
    for (int d = 0; d < 8; ++d) out[d] *= shrink;
#pragma unroll
    for (int i = 0; i < kKeys / kPerLoad; ++i) {
      // What lies behind the last key may be no number: instead of it that key's value is read once more.
      const int key = i * kPerLoad + lane / kCells;
      const float by = __shfl_sync(0xffffffffu, shares[i * kPerLoad / 8], key % 8 * 4);
      float value[8];
      widen(static_cast<const uint4*>(values)[min(key, end - 1) * kCells + lane % kCells], value);
#pragma unroll
      for (int d = 0; d < 8; ++d) out[d] += by * value[d];
    }
  }

  /// To sums, largest exponent, denominator.
  __device__ __forceinline__ void store(float* row, int, int, int lane) {
    total = over_keys(total, [](float a, float b) { return a + b; });
#pragma unroll
    for (int d = 0; d < 8; ++d)
#pragma unroll
      for (int far = kCells; far < kWarp; far *= 2) out[d] += __shfl_xor_sync(0xffffffffu, out[d], far);
    if (lane < kCells) {
      float4* to = reinterpret_cast<float4*>(row + lane * 8);
      to[0] = make_float4(out[0], out[1], out[2], out[3]), to[1] = make_float4(out[4], out[5], out[6], out[7]);
    }
    if (lane == 0) row[kDim] = highest, row[kDim + 1] = total;
  }

 private:
  __device__ __forceinline__ static void widen(const uint4& cell, float (&to)[8]) {
    const uint32_t words[4] = {cell.x, cell.y, cell.z, cell.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = float_pair(words[i]);
      to[2 * i] = pair.x, to[2 * i + 1] = pair.y;
    }
  }

  /// Over the lanes that have different keys.
  template <typename Take>
  __device__ __forceinline__ static float over_keys(float x, Take take) {
#pragma unroll
    for (int far = 4; far < kWarp; far *= 2) x = take(x, __shfl_xor_sync(0xffffffffu, x, far));
    return x;
  }
};

/// Up to eight query heads, on tensor cores, which do not care in which order dims are summed: 16 bytes of a key are two of a lane's operands as
/// they are. Scores have heads as rows and keys as columns, which is how the second product takes them; its rows are dims, and
/// values become its other operand by bytes exchanged between two rows of a lane.
template <int kDim>
struct EightHeads {
  static constexpr int kHeads = 8;
  static constexpr int kCells = kDim / 8;           // of eight dims, 16 bytes
  static constexpr int kLoads = kCells / 4;         // a lane's cells of eight keys, and of their values
  static constexpr int kKeys = 1024 / kDim;         // of a step

  uint4 q[kLoads];                                  // of head g the cells 4 i + t
  float out[kDim / 16][4], highest, total;          // rows of dims by columns of heads; of head g

  __device__ __forceinline__ void begin(const __half* queries, int pitch, int lane) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) q[i] = reinterpret_cast<const uint4*>(queries + lane / 4 * pitch)[4 * i + lane % 4];
#pragma unroll
    for (int j = 0; j < kDim / 16; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) out[j][i] = 0.f;
    highest = -INFINITY, total = 0.f;
  }

  __device__ __forceinline__ void step(const void* keys, const void* values, int first, int end, float scale, int lane) {
#pragma unroll 1
    for (int key0 = 0; key0 < kKeys; key0 += 8) {
      if (key0 >= end) return;
      eight(static_cast<const uint4*>(keys) + key0 * kCells, static_cast<const uint4*>(values) + key0 * kCells, first - key0, end - key0, scale, lane);
    }
  }

  __device__ __forceinline__ void store(float* rows, int pitch, int heads, int lane) {
    const int g = lane / 4, t = lane % 4;
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    if (g < heads && t == 0) rows[g * pitch + kDim] = highest, rows[g * pitch + kDim + 1] = total;
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      if (2 * t + odd >= heads) continue;
      float4* row = reinterpret_cast<float4*>(rows + (2 * t + odd) * pitch) + 2 * g;
#pragma unroll
      for (int j = 0; j < kDim / 64; ++j) {
        row[j] = make_float4(out[4 * j][odd], out[4 * j + 1][odd], out[4 * j + 2][odd], out[4 * j + 3][odd]);
        row[j + (kDim == 128 ? 16 : 1)] = make_float4(out[4 * j][odd + 2], out[4 * j + 1][odd + 2], out[4 * j + 2][odd + 2], out[4 * j + 3][odd + 2]);
      }
    }
  }

 private:
  __device__ __forceinline__ void eight(const uint4* keys, const uint4* values, int first_key, int end, float scale, int lane) {
    const int g = lane / 4, t = lane % 4;
    float s[2][4] = {};  // of head g, keys 2 t and 2 t + 1
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const uint4 k = keys[g * kCells + 4 * i + t];
      multiply(s[0], {q[i].x, 0, q[i].y, 0}, k.x, k.y);
      multiply(s[1], {q[i].z, 0, q[i].w, 0}, k.z, k.w);
    }
    const auto score = [&](int i) { return 2 * t + i >= first_key && 2 * t + i < end ? (s[0][i] + s[1][i]) * scale : -INFINITY; };
    const float first = score(0), second = score(1);
    float best = fmaxf(first, second);
    best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 1));
    best = fmaxf(highest, fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 2)));
    const float base = best == -INFINITY ? 0.f : best, shrink = power_of_two(highest - base);
    const float a = power_of_two(first - base), b = power_of_two(second - base);
    highest = best, total = total * shrink + (a + b);
    if (__any_sync(0xffffffffu, shrink != 1.f)) {
      const float even = __shfl_sync(0xffffffffu, shrink, 8 * t), odd = __shfl_sync(0xffffffffu, shrink, 8 * t + 4);
#pragma unroll
      for (int j = 0; j < kDim / 16; ++j) out[j][0] *= even, out[j][1] *= odd, out[j][2] *= even, out[j][3] *= odd;
    }
    const uint32_t shares = half_pair(a, b);
    // Values 2 t and 2 t + 1, cells g and, with 128 dims, g + 8; what lies where no value is may be no number.
    uint4 v[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      v[i] = values[(2 * t + i % 2) * kCells + i / 2 * 8 + g];
      if (2 * t + i % 2 >= end) v[i] = make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int j = 0; j < kDim / 16; ++j) {
      // Dims j of a lane's cells: rows g and g + 8 of the tile.
      const uint32_t upper = pair_of(v[0], v[1], j), lower = kDim == 128 ? pair_of(v[kLoads - 2], v[kLoads - 1], j) : pair_of(v[0], v[1], j + 4);
      multiply_8(out[j], upper, lower, shares);
    }
  }

  /// Half number j of two cells.
  __device__ __forceinline__ static uint32_t pair_of(const uint4& first, const uint4& second, int j) {
    const uint32_t a[4] = {first.x, first.y, first.z, first.w}, b[4] = {second.x, second.y, second.z, second.w};
    return __byte_perm(a[j / 2], b[j / 2], j % 2 == 0 ? 0x5410 : 0x7632);
  }

  /// c[16 x 8] += a[16 x 8] * b[8 x 8], as multiply() with half its k.
  __device__ __forceinline__ static void multiply_8(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(b0));
  }
};

}  // namespace exllama
