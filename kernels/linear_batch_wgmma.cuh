// What a launch of linear_batch_wgmma.cu is told, how its work is dealt out, and the two rings that feed a block: each warp's
// weights and the block's x.
#pragma once

#include "linear_prompt.cuh"
#include "tensor_map.cuh"

namespace exllama {

struct BatchLinear {
  const uint8_t* weights0;  // row tiles of up to three linears that read the same x
  const uint8_t* weights1;
  const uint8_t* weights2;
  const __half* bias0;      // [n] or null
  const __half* bias1;
  const __half* bias2;
  __half* y0;               // [m, n] each
  __half* y1;
  __half* y2;
  float* residual;          // [m, n0], to which the only linear's results are added in place of y0; or null
  float* pieces;
  uint32_t* arrivals;       // [units][8]
  int32_t n0, n1, n2;       // 0: there is none
  int32_t m, k;
  int32_t silu;             // silu(first) * second, as the first one's y
  int32_t units;
  int32_t unused;
};
static_assert(sizeof(BatchLinear) == 128);

struct TensorBatchParams {
  TensorMap x_map;          // boxes of 64 k x kN tokens, 128-byte swizzle (tensor-map.ts)
  BatchLinear linear;
};
static_assert(sizeof(TensorBatchParams) == 256);

constexpr int kBatchOutputs = 128, kBatchWarps = 8, kSliceChunks = 4, kSliceK = kSliceChunks * kChunk;

template <int kGroup, int kN>
struct BatchTile {
  using L = Layout<4, kGroup>;
  static constexpr int kStageBytes = 2 * kN * kChunk * 2;                // x of a pair of chunks
  static constexpr int kStages = kN == 16 ? 6 : kN == 64 ? 3 : 4;
  static constexpr int kGroups = kSliceK / kGroup;
  static constexpr int kCodeBytes = kSliceChunks * L::kChunkBytes, kScaleBytes = kGroups * L::kScaleBytes, kZeroBytes = kGroups * L::kZeroBytes;
  static constexpr int kSliceBytes = kCodeBytes + kScaleBytes + kZeroBytes;  // of a warp
  static constexpr int kSlots = kN == 64 ? 3 : 4;                        // slices under way to a warp, and the one it reads
  static constexpr int kWeightsAt = kStages * kStageBytes;
  static constexpr int kBarriersAt = kWeightsAt + kBatchWarps * kSlots * kSliceBytes;
  static constexpr int kShared = 1024 + kBarriersAt + 16 * kStages + 8 * kBatchWarps * kSlots;  // from a multiple of 1024 on
  static constexpr int kBlocks = kN <= 64 ? 2 : 1;                       // of a multiprocessor
  static_assert(kSliceBytes % 16 == 0 && kZeroBytes % 16 == 0 && (kShared + 1024) * kBlocks <= 233472);
};
// What wgmmaBatchLaunch() asks for.
static_assert(BatchTile<128, 16>::kShared == 94048 && BatchTile<128, 32>::kShared == 102208 && BatchTile<128, 64>::kShared == 101488);
static_assert(BatchTile<128, 128>::kShared == 200512 && BatchTile<32, 32>::kShared == 109888);

#ifdef EXLLAMA_WGMMA

#define EXLLAMA_SUMS_TEXT_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define EXLLAMA_SUMS_TEXT_16 EXLLAMA_SUMS_TEXT_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
EXLLAMA_WGMMA_WEIGHTS(16, 8, 9, 10, 11, 12, EXLLAMA_SUMS_TEXT_8, EXLLAMA_SUMS_8(d, 0))
EXLLAMA_WGMMA_WEIGHTS(32, 16, 17, 18, 19, 20, EXLLAMA_SUMS_TEXT_16, EXLLAMA_SUMS_8(d, 0), EXLLAMA_SUMS_8(d, 8))
EXLLAMA_WGMMA_WEIGHTS(64, 32, 33, 34, 35, 36, EXLLAMA_SUMS_TEXT_32, EXLLAMA_SUMS_32(d, 0))

__device__ __forceinline__ int units_of(int n) { return (n + kBatchOutputs - 1) / kBatchOutputs; }

/// Where the row tile of a warp lies in a unit.
struct BatchPlace {
  int linear, row;  // row: its first output
  __device__ __forceinline__ BatchPlace(const BatchLinear& p, int unit, int warp) {
    if (p.silu) {
      linear = warp / 4, row = unit * (kBatchOutputs / 2) + warp % 4 * kTileRows;
      return;
    }
    const int units0 = units_of(p.n0), units1 = units_of(p.n1);
    linear = unit < units0 ? 0 : unit < units0 + units1 ? 1 : 2;
    row = (unit - (linear == 0 ? 0 : linear == 1 ? units0 : units0 + units1)) * kBatchOutputs + warp * kTileRows;
  }
};

/// Slices: what a block has of them, and whose one is. Times the blocks they are fewer than 2^32: wgmmaBatchLaunch().
struct BatchShare {
  uint32_t slices, all;  // of a unit, of all
  __device__ __forceinline__ explicit BatchShare(const BatchLinear& p) : slices(p.k / kSliceK), all(p.units * (p.k / kSliceK)) {}
  __device__ __forceinline__ int first(uint32_t block) const { return all * block / gridDim.x; }
  __device__ __forceinline__ int block_of(uint32_t slice) const { return ((slice + 1) * gridDim.x - 1) / all; }
};

/// `bytes` from device memory (both at multiples of 16) that count at a barrier.
__device__ __forceinline__ void copy_bytes(uint32_t to, const void* from, int bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes),
               "r"(barrier)
               : "memory");
}

/// A warp's weights, slice after slice through its block's run, into its ring in shared memory.
template <int kGroup, int kN>
struct BatchFeed {
  using Tile = BatchTile<kGroup, kN>;
  using L = Layout<4, kGroup>;
  const BatchLinear& p;
  const uint8_t* superblock;
  uint32_t ring, barriers;
  int rest, slice;        // inputs from the superblock's first on, slice in it
  int unit, warp, lane, slot = 0;
  int left;               // slices that are not asked for yet

  __device__ __forceinline__ BatchFeed(const BatchLinear& p, const BatchShare& share, uint32_t ring, uint32_t barriers, int first, int last, int warp,
                                       int lane)
      : p(p), ring(ring), barriers(barriers), unit(first / share.slices), warp(warp), lane(lane), left(last - first) {
    begin_unit();
    const int k = (first - unit * share.slices) * kSliceK;
    superblock += k / kSuperblock * L::superblock_bytes(kSuperblock);
    rest -= k / kSuperblock * kSuperblock;
    slice = k % kSuperblock / kSliceK;
  }

  __device__ __forceinline__ void begin_unit() {
    const BatchPlace place(p, unit, warp);
    const int tiles = (of_linear(place.linear, p.n0, p.n1, p.n2) + kTileRows - 1) / kTileRows;
    superblock = of_linear(place.linear, p.weights0, p.weights1, p.weights2) +
                 size_t(min(place.row / kTileRows, tiles - 1)) * L::tile_bytes(p.k);
    rest = p.k, slice = 0;
  }

  /// Asks for the next slice, if there is one: one lane each for codes, scales and zeros.
  __device__ __forceinline__ void ask() {
    if (left == 0) return;
    --left;
    const int k = min(kSuperblock, rest), group = slice * Tile::kGroups;
    const uint32_t to = ring + slot * Tile::kSliceBytes, barrier = barriers + slot * 8;
    const uint8_t* scales = superblock + k * (kTileRows / 2);
    const uint8_t* from = lane == 0   ? superblock + slice * Tile::kCodeBytes
                          : lane == 1 ? scales + group * L::kScaleBytes
                                      : scales + (k + kGroup - 1) / kGroup * L::kScaleBytes + group * L::kZeroBytes;
    if (lane == 0) barrier_expect(barrier, Tile::kSliceBytes);
    __syncwarp();
    if (lane < 3)
      copy_bytes(to + (lane == 0 ? 0 : lane == 1 ? Tile::kCodeBytes : Tile::kCodeBytes + Tile::kScaleBytes), from,
                 lane == 0 ? Tile::kCodeBytes : lane == 1 ? Tile::kScaleBytes : Tile::kZeroBytes, barrier);
    if (++slot == Tile::kSlots) slot = 0;
    if (++slice < k / kSliceK) return;
    superblock += L::superblock_bytes(kSuperblock);
    rest -= k, slice = 0;
    if (rest == 0 && ++unit < p.units) begin_unit();
  }
};

/// The other end of the ring.
template <int kGroup, int kN>
struct BatchTaker {
  using Tile = BatchTile<kGroup, kN>;
  uint32_t ring, barriers;
  int lane, slot = -1;
  uint32_t parity = 1, from = 0;

  /// Goes on to the next slice, when it is there.
  __device__ __forceinline__ void next() {
    if (++slot == Tile::kSlots) slot = 0;
    if (slot == 0) parity ^= 1;
    barrier_wait(barriers + slot * 8, parity);
    from = ring + slot * Tile::kSliceBytes;
  }
  /// A chunk of the slice.
  template <int kIndex>
  __device__ __forceinline__ void read(PackedChunk<kGroup>& packed) const {
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(packed.codes.x), "=r"(packed.codes.y), "=r"(packed.codes.z), "=r"(packed.codes.w)
                 : "r"(from + lane * 16 + kIndex * Tile::L::kChunkBytes)
                 : "memory");
#pragma unroll
    for (int i = 0; i < PackedChunk<kGroup>::kGroups; ++i) {
      const int group = kIndex * kChunk / kGroup + i;
      const uint32_t scales = from + Tile::kCodeBytes + group * 32 + lane / 4 * 2;
      uint16_t low, high;
      asm volatile("ld.shared.u16 %0, [%1];" : "=h"(low) : "r"(scales) : "memory");
      asm volatile("ld.shared.u16 %0, [%1];" : "=h"(high) : "r"(scales + 16) : "memory");
      packed.scales[i][0] = low, packed.scales[i][1] = high;
      asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
                   : "=r"(packed.zeros[i].x), "=r"(packed.zeros[i].y)
                   : "r"(from + Tile::kCodeBytes + Tile::kScaleBytes + group * 8)
                   : "memory");
    }
  }
};

/// The ring of x: a place in it.
template <int kGroup, int kN>
struct BatchRing {
  using Tile = BatchTile<kGroup, kN>;
  uint32_t stages, barriers;  // shared addresses
  int slot = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ uint32_t x() const { return stages + slot * Tile::kStageBytes; }
  __device__ __forceinline__ uint32_t full() const { return barriers + slot * 8; }
  __device__ __forceinline__ uint32_t empty() const { return barriers + (Tile::kStages + slot) * 8; }
  __device__ __forceinline__ void advance() {
    if (++slot == Tile::kStages) slot = 0, parity ^= 1;
  }
};

/// One thread's askings for x, pair after pair of chunks of the block's run.
template <int kGroup, int kN>
struct BatchAsker {
  BatchRing<kGroup, kN> ring;
  const TensorMap* map;
  int pair, pairs, left;  // of the unit: the next one, all of them; of the run: those that are not asked for yet

  __device__ __forceinline__ void ask() {
    if (left == 0) return;
    --left;
    barrier_wait(ring.empty(), ring.parity ^ 1);  // a new barrier counts as past that
    barrier_expect(ring.full(), BatchTile<kGroup, kN>::kStageBytes);
#pragma unroll
    for (int c = 0; c < 2; ++c) copy_box(ring.x() + c * (kN * 128), map, (2 * pair + c) * kChunk, 0, ring.full());
    ring.advance();
    if (++pair == pairs) pair = 0;
  }
};

#endif  // EXLLAMA_WGMMA

}  // namespace exllama
