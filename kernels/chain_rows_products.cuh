// The products of linear_chain_rows.cu: four bits by sixteen, exact, as those of linear_chain_products.cuh. The eight columns are tokens; high and low digits
// are multiplied one after the other, into sums of their own, which are put together, scaled and added up in f32 every kSpan.
#pragma once

#include "chain_rows.cuh"
#include "linear_chain_products.cuh"

namespace exllama {

/// What a warp multiplies at a time, out of the ring: 16 rows by kQuarter of k, as they are stored.
struct RowsUnit {
  using L = Layout<4, 128>;
  static constexpr int kChunks = kQuarter / kChunk, kSpans = kQuarter / kSpan;
  uint4 codes[kChunks] = {};
  uint32_t scales[kSpans] = {};  // rows g and g + 8
  uint2 zeros[kSpans] = {};      // of all rows
  bool is_there = false;

  /// Codes, scales and zeros from these places, which are then no more needed by this warp. What lies behind a superblock's end is read and not used.
  __device__ __forceinline__ void take(uint32_t own, uint32_t scale, uint32_t zero, uint64_t* empty, int lane) {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) codes[i] = load_16(own + i * L::kChunkBytes);
#pragma unroll
    for (int i = 0; i < kSpans; ++i) {
      uint16_t low, high;
      asm volatile("ld.shared.u16 %0, [%1];" : "=h"(low) : "r"(scale + i * L::kScaleBytes));
      asm volatile("ld.shared.u16 %0, [%1];" : "=h"(high) : "r"(scale + i * L::kScaleBytes + 16));
      scales[i] = low | uint32_t(high) << 16;
      asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(zeros[i].x), "=r"(zeros[i].y) : "r"(zero + i * L::kZeroBytes));
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(empty);
  }
};

/// A quarter of a superblock of x, as a lane multiplies all tiles by it.
struct RowsX {
  static constexpr int kChunks = RowsUnit::kChunks, kSpans = RowsUnit::kSpans;
  uint4 high[kChunks], low[kChunks];
  uint4 facts[kSpans];  // factor and sum of tokens 2 t and 2 t + 1

  /// `x`: the lane's cell in the first chunk; `from`: facts of the first span.
  __device__ __forceinline__ void take(uint32_t x, uint32_t from) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) high[c] = load_16(x + c * kRowsChunkBytes), low[c] = load_16(x + c * kRowsChunkBytes + kRowsChunkBytes / 2);
#pragma unroll
    for (int i = 0; i < kSpans; ++i) facts[i] = load_16(from + i * (kChainRows * sizeof(ChainSpan)));
  }

  /// Adds the products of the first `spans` by a unit.
  __device__ __forceinline__ void multiply(const RowsUnit& unit, int spans, float4& sum, int lane) const {
    constexpr uint32_t kEven = 0x0f0f0f0fu;  // codes of row g
#pragma unroll
    for (int i = 0; i < kSpans; ++i) {
      int h[4] = {}, l[4] = {};
#pragma unroll
      for (int c = 2 * i; c < 2 * i + 2; ++c) {
        const uint4& q = unit.codes[c];
        multiply_bytes(h, q.x & kEven, q.x, q.y & kEven, q.y, high[c].x, high[c].y);
        multiply_bytes(l, q.x & kEven, q.x, q.y & kEven, q.y, low[c].x, low[c].y);
        multiply_bytes(h, q.z & kEven, q.z, q.w & kEven, q.w, high[c].z, high[c].w);
        multiply_bytes(l, q.z & kEven, q.z, q.w & kEven, q.w, low[c].z, low[c].w);
      }
      // Sixteen bits times eight bits, 128 times: exact in 32. Row g + 8 has its codes times sixteen and those of row g.
      const int shift = lane & 28, zero = unit.zeros[i].x >> shift & 15, zero_16 = (unit.zeros[i].y >> shift & 15) * 16;
      const int first = h[0] * 256 + l[0], second = h[1] * 256 + l[1];
      const int both_first = h[2] * 256 + l[2], both_second = h[3] * 256 + l[3];
      const int x_first = static_cast<int>(facts[i].y), x_second = static_cast<int>(facts[i].w);
      const float2 scale = float_pair(unit.scales[i]);
      const float scale_8 = scale.y * (1.f / 16), factor_first = __uint_as_float(facts[i].x), factor_second = __uint_as_float(facts[i].z);
      const auto add = [&](float& to, int products, float by) {
        const float more = fmaf(static_cast<float>(products), by, to);
        to = i < spans ? more : to;
      };
      add(sum.x, first - zero * x_first, scale.x * factor_first);
      add(sum.y, second - zero * x_second, scale.x * factor_second);
      add(sum.z, both_first - first - zero_16 * x_first, scale_8 * factor_first);
      add(sum.w, both_second - second - zero_16 * x_second, scale_8 * factor_second);
    }
  }
};

/// Where a warp finds what it multiplies, of the superblocks of all of a block's tiles that lie in the ring one after the other.
struct RowsPlace {
  using L = Layout<4, 128>;
  int ways, step, quarter, first;  // sums of a tile; from tile to tile; the first superblock that is the warp's
  __device__ __forceinline__ RowsPlace(int tiles, int warp)
      : ways(rows_ways(tiles)), step(kChainWarps / ways), quarter(warp % kRowsWays), first(ways == kRowsWays ? 0 : warp / kRowsWays % 2) {}
  __device__ __forceinline__ int next_superblock() const { return ways / kRowsWays; }

  /// From stage `stage` of the ring, when it is there. `sb_k`: inputs of the superblock.
  __device__ __forceinline__ void take(RowsUnit& unit, const ChainRowsShared& shared, uint32_t memory, int stage, int sb_k, int lane) const {
    const uint32_t from = memory + kRowsHeadBytes + stage * ChainRowsShared::kStageBytes, table = from + sb_k * (kTileRows / 2);
    unit.take(from + quarter * (RowsUnit::kChunks * L::kChunkBytes) + lane * 16, table + quarter * (RowsUnit::kSpans * L::kScaleBytes) + lane / 4 * 2,
              table + sb_k / kSpan * L::kScaleBytes + quarter * (RowsUnit::kSpans * L::kZeroBytes), shared.empty + stage, lane);
  }
};

__device__ __forceinline__ uint32_t full_barrier(uint32_t memory, unsigned round, int stage) { return memory + ((round & 1) * kMostChainStages + stage) * 8; }

/// Takes a warp's first unit of a linear, if it has arrived, while x is on its way: the ring has room for more then.
__device__ __forceinline__ void take_first(RowsUnit& unit, const ChainRowsParams& p, const ChainRowsShared& shared, int tiles, int k, int place, int warp,
                                           int lane) {
  const RowsPlace own(tiles, warp);
  const int tile = warp / own.ways;
  if (tile >= tiles || own.first * kSuperblock >= k) return;
  const uint32_t memory = shared_address(shared.full);
  const unsigned at = place + own.first * tiles + tile, round = at * p.stage_magic >> 20;
  const int stage = at - round * p.stages;
  if (!__all_sync(0xffffffffu, barrier_is_past(full_barrier(memory, round, stage), round >> 1 & 1))) return;
  own.take(unit, shared, memory, stage, min(kSuperblock, k - own.first * kSuperblock), lane);
  unit.is_there = true;
}

/// A part of x, in shared memory at `x`, by all of a block's tiles: adds to their sums, or begins them. `place` is where the part's first superblock is in the
/// ring. Four warps have a tile, a quarter of each superblock each, or eight have, four for every other superblock.
__device__ __forceinline__ void rows_products(RowsUnit& unit, const ChainRowsParams& p, const ChainRowsShared& shared, int tiles, uint32_t x, int part_k,
                                              bool begins, int place, int warp, int lane) {
  const int superblocks = (part_k + kSuperblock - 1) / kSuperblock;
  const RowsPlace own(tiles, warp);
  const int token = lane / 4;
  const uint32_t x_lane = x + own.quarter * (RowsUnit::kChunks * kRowsChunkBytes) + token * kChunk + (lane % 4 ^ token / 2) * 16;
  const uint32_t facts = x + kPartK / kChunk * kRowsChunkBytes + own.quarter * (RowsUnit::kSpans * kChainRows * 8) + lane % 4 * 16;
  const uint32_t memory = settled(shared_address(shared.full));
#pragma unroll 1
  for (int i = own.first; i < max(superblocks, own.first + 1); i += own.next_superblock()) {
    const int sb_k = min(kSuperblock, part_k - i * kSuperblock), spans = (sb_k - own.quarter * kQuarter) / kSpan;
    const bool sets = begins && i == own.first;
    int tile = warp / own.ways;
    const unsigned at = place + i * tiles + tile;
    unsigned round = at * p.stage_magic >> 20;
    int stage = at - round * p.stages;
    float4* to = shared.sums + (tile * own.ways + warp % own.ways) * kWarp + lane;
    RowsX mine;
    mine.take(x_lane + i * (kSuperblock / kChunk * kRowsChunkBytes), facts + i * (kSuperblock / kSpan * kChainRows * 8));
#pragma unroll 1
    for (; tile < tiles; tile += own.step, to += kChainWarps * kWarp) {
      float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
      if (!sets) sum = *to;
      if (i < superblocks) {
        if (!unit.is_there) {
          barrier_wait(full_barrier(memory, round, stage), round >> 1 & 1);
          own.take(unit, shared, memory, stage, sb_k, lane);
        }
        unit.is_there = false;
        mine.multiply(unit, spans, sum, lane);
        stage += own.step;
        if (stage >= p.stages) stage -= p.stages, ++round;
      }
      *to = sum;
    }
  }
}

}  // namespace exllama
