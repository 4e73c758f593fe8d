// Stages of linear_batch.cu's ring, and how they are filled.
#pragma once

#include "linear_batch.cuh"

namespace exllama {

constexpr int kUnitTiles = kUnitOutputs / kTileRows;

/// The sizes that a kernel is compiled for; the same arithmetic as batch-launch.ts.
template <int kBits, int kGroup, int kTokens>
struct BatchTile {
  using L = Layout<kBits, kGroup>;
  static constexpr int kWarps = 16, kThreads = kWarps * kWarp;
  static constexpr int kWarpTiles = 2;                            // row tiles of a warp
  static constexpr int kOutputWays = kUnitTiles / kWarpTiles;
  static constexpr int kTokenWays = kTokens > 32 ? kTokens / 32 : 1;
  static constexpr int kColumnTiles = kTokens / 8 / kTokenWays;   // of a warp
  static constexpr int kInputWays = kWarps / kOutputWays / kTokenWays;
  static constexpr int kSlice = kChunk * kInputWays;              // k of a stage
  static constexpr int kSlices = kSuperblock / kSlice;            // of a superblock
  static constexpr int kGroups = kSlice > kGroup ? kSlice / kGroup : 1;  // that a stage has k of
  static_assert(kInputWays > 0 && kTokens % (8 * kTokenWays) == 0);

  static constexpr int kCodeBytes = L::kChunkBytes * kInputWays;  // of a row tile in a stage
  static constexpr int kScales = kUnitTiles * kCodeBytes;
  static constexpr int kZeros = kScales + kUnitTiles * kGroups * L::kScaleBytes;
  static constexpr int kX = kZeros + kUnitTiles * kGroups * L::kZeroBytes;
  static constexpr int kRowBytes = kSlice * 2;
  static constexpr int kStageBytes = kX + kTokens * kRowBytes;
  static constexpr int kSumBytes = kTokens * kUnitOutputs * 4;
  static constexpr int kSumBuffers = kInputWays / 2;
  static_assert(kX % 16 == 0 && kStageBytes % 16 == 0);

  /// Byte offset of the 16-byte cell `cell` of a row of x.
  __device__ __forceinline__ static int cell_offset(int row, int cell) { return row * kRowBytes + ((cell ^ ((row & 1) * 4)) * 16); }
};

/// 8 bytes from global to shared memory, asynchronous where the hardware can.
__device__ __forceinline__ void copy_async_8(void* shared, const void* global) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))), "l"(global));
#else
  *static_cast<uint2*>(shared) = *static_cast<const uint2*>(global);
#endif
}

/// Waits for the stage that is read next, where `stages - 1` have been asked for.
__device__ __forceinline__ void wait_for_stage(int stages) {
  if (stages == 2) copy_async_wait<0>();
  else if (stages == 3) copy_async_wait<1>();
  else if (stages == 4) copy_async_wait<2>();
  else if (stages == 5) copy_async_wait<3>();
  else copy_async_wait<4>();
}

/// Fills stages, slice after slice; all threads take part. Every thread has the same cell of every so many row tiles and rows of x, by pointers that
/// only change with the unit: what is left for a slice is little more than the copies themselves.
template <int kBits, int kGroup, int kTokens>
struct BatchLoader {
  using T = BatchTile<kBits, kGroup, kTokens>;
  using L = Layout<kBits, kGroup>;
  static constexpr int kThreads = T::kThreads;
  static constexpr int kCells = T::kCodeBytes / 16;  // of a row tile
  static constexpr int kAllCells = kUnitTiles * kCells, kRounds = (kAllCells + kThreads - 1) / kThreads;
  // Scales in cells of 16 bytes, behind them zeros in cells of 8.
  static constexpr int kScaleCells = T::kGroups * 2, kZeroCells = T::kGroups * L::kZeroBytes / 8;  // of a row tile
  static constexpr int kAllScales = kUnitTiles * kScaleCells, kTableCells = kAllScales + kUnitTiles * kZeroCells;
  static constexpr int kTableRounds = (kTableCells + kThreads - 1) / kThreads;
  static constexpr int kRowCells = T::kRowBytes / 16;  // of x
  static constexpr int kAllX = kTokens * kRowCells, kXRounds = (kAllX + kThreads - 1) / kThreads;
  static_assert(kThreads % kRowCells == 0 && (kAllX % kThreads == 0 || kAllX < kThreads));

  const BatchParams& p;
  const uint8_t* half[2];         // first row tiles of the unit's halves
  uint32_t code[kRounds];         // bytes from there to this thread's cells
  const uint8_t* table[kTableRounds];
  uint32_t row[kXRounds];         // elements from x
  int thread, unit, slice;

  __device__ __forceinline__ BatchLoader(const BatchParams& params, int first) : p(params), thread(threadIdx.x) {
    unit = first / p.slices;
    slice = first - unit * p.slices;
    // Tokens beyond the last are computed as if they were the last, and dropped later.
#pragma unroll
    for (int i = 0; i < kXRounds; ++i)
      row[i] = uint32_t(min((i * kThreads + thread) / kRowCells, p.m - 1)) * p.ldx + thread % kRowCells * 8;
    enter();
  }

  /// Which half cells of round i belong to: mostly known when this is compiled.
  __device__ __forceinline__ int half_of(int i) const {
    constexpr int kHalfCells = kHalfTiles * kCells;
    return kHalfCells % kThreads == 0 ? i * kThreads / kHalfCells : min((i * kThreads + thread) / kHalfCells, 1);
  }

  __device__ __forceinline__ void enter() {
    const uint32_t tile_bytes = static_cast<uint32_t>(L::tile_bytes(p.k));
    int most[2];  // row tiles that a half has behind its first
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const BatchHalf at(p, unit, h);
      const int tile = at.first / kTileRows;
      half[h] = (at.segment == 0 ? p.weights0 : at.segment == 1 ? p.weights1 : p.weights2) + uint32_t(tile) * size_t(tile_bytes);
      most[h] = (at.outputs + kTileRows - 1) / kTileRows - 1 - tile;
    }
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const int cell = i * kThreads + thread, h = half_of(i);
      code[i] = uint32_t(min(cell / kCells % kHalfTiles, h ? most[1] : most[0])) * tile_bytes + cell % kCells * 16;
    }
#pragma unroll
    for (int i = 0; i < kTableRounds; ++i) {
      const int cell = i * kThreads + thread, zero = cell - kAllScales;
      const int index = min(zero < 0 ? cell / kScaleCells : zero / kZeroCells, kUnitTiles - 1), h = index / kHalfTiles;
      table[i] = (h ? half[1] : half[0]) + uint32_t(min(index % kHalfTiles, h ? most[1] : most[0])) * tile_bytes +
                 (zero < 0 ? cell % kScaleCells * 16 : zero % kZeroCells * 8);
    }
  }

  __device__ __forceinline__ void next() {
    if (++slice < p.slices) return;
    slice = 0;
    if (++unit < p.units) enter();
  }

  __device__ __forceinline__ void load_weights(uint8_t* stage) const {
    const int superblock = slice / T::kSlices, inside = slice % T::kSlices;
    const uint32_t begin = uint32_t(superblock) * L::superblock_bytes(kSuperblock);
    const int sb_k = min(kSuperblock, p.k - superblock * kSuperblock), there = sb_k - inside * T::kSlice;  // k
    if (there >= T::kSlice) load_weights<true>(stage, begin, sb_k, inside, there);
    else load_weights<false>(stage, begin, sb_k, inside, there);
  }

  /// `kWhole`: the row tiles have all k of the slice.
  template <bool kWhole>
  __device__ __forceinline__ void load_weights(uint8_t* stage, uint32_t begin, int sb_k, int inside, int there) const {
    const uint32_t codes_at = begin + inside * T::kCodeBytes;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const int cell = i * kThreads + thread;
      if (kAllCells % kThreads != 0 && cell >= kAllCells) continue;
      if (kWhole || cell % kCells / (L::kChunkBytes / 16) * kChunk < there)
        copy_async_16(stage + cell * 16, (half_of(i) ? half[1] : half[0]) + (code[i] + codes_at), true);
    }
    const int groups = (sb_k + kGroup - 1) / kGroup, group0 = inside * T::kSlice / kGroup;
    const uint32_t scales_at = begin + sb_k * (kTileRows * kBits / 8) + group0 * L::kScaleBytes;
    const uint32_t zeros_at = begin + sb_k * (kTileRows * kBits / 8) + groups * L::kScaleBytes + group0 * L::kZeroBytes;
#pragma unroll
    for (int i = 0; i < kTableRounds; ++i) {
      const int cell = i * kThreads + thread, zero = cell - kAllScales;
      if (zero < 0) {
        if (kWhole || group0 + cell % kScaleCells / 2 < groups) copy_async_16(stage + T::kScales + cell * 16, table[i] + scales_at, true);
      } else if (zero < kUnitTiles * kZeroCells) {
        if (kWhole || group0 + zero % kZeroCells / (L::kZeroBytes / 8) < groups)
          copy_async_8(stage + T::kZeros + zero * 8, table[i] + zeros_at);
      }
    }
  }

  __device__ __forceinline__ void load_x(uint8_t* stage) const {
    if (kAllX < kThreads && thread >= kAllX) return;
    const int k0 = slice * T::kSlice, cell = thread % kRowCells, r = thread / kRowCells;
    const bool valid = k0 + cell * 8 < p.k_valid;
    uint8_t* to = stage + T::kX + T::cell_offset(r, cell);
    constexpr int kStep = kThreads / kRowCells;  // rows from one round to the next
    static_assert(kStep % 2 == 0 || kXRounds == 1, "cells are exchanged by the row's parity");
#pragma unroll
    for (int i = 0; i < kXRounds; ++i) copy_async_16(to + i * kStep * T::kRowBytes, p.x + (row[i] + (valid ? k0 : 0)), valid);
  }
};

}  // namespace exllama
