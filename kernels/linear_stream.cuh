// What linear_stream.cu shares with the host: a launch, what lies where in a block's shared memory, whose tiles are whose.
#pragma once

#include "bulk_ring.cuh"
#include "quantized.cuh"

namespace exllama {

/// One launch. 8-byte fields first.
struct StreamParams {
  const uint8_t *weights0, *weights1, *weights2;  // row tiles of the segments
  const __half *bias0, *bias1, *bias2;            // [n] or null
  void *y0, *y1, *y2;                             // [m, ldy] f16, or f32 where y_is_f32
  const void* x;                                  // [m, ldx] f16; f32 where norm is set
  const __half* norm;                             // [k_valid] weights of the RMSNorm that x goes through, or null
  const int32_t* permutation;                     // [k_valid] source column of x, or null
  const float* residual;                          // [m, ldy0] f32 added to the first result, or null
  int32_t n0, n1, n2;                             // outputs; 0: no such segment
  int32_t ldy0, ldy1, ldy2;
  int32_t m, k;                                   // k padded to 64
  int32_t k_valid, ldx;                           // columns that x really has
  int32_t y_is_f32;
  int32_t silu;                                   // 1: y0 = silu(first) * second, n0 == n1, n2 == 0
  int32_t slab;                                   // k of x in shared memory at a time: a multiple of 1024
  int32_t stages;                                 // of the ring
  float eps;                                      // of the norm
  int32_t unused;
};
static_assert(sizeof(StreamParams) == 168);

constexpr int kTeam = 8;                       // warps that share a superblock
constexpr int kSpan = kSuperblock / kTeam;     // k of a superblock that one warp takes
constexpr int kMostStages = 12;
constexpr int kMostTokens = 16;
constexpr int kBarrierBytes = 2 * kMostStages * 8 + kMostTokens * 4;
static_assert(kBarrierBytes == 256);
constexpr int kCellsOfRow = 2;                 // of 8 k for each thread, where it holds its part of x; more do not fit the registers
constexpr int kPartialPitch = kTileRows + 4;   // floats; spreads writers over the banks

/// What lies where in a block's dynamic shared memory; the same arithmetic as linear-launch.ts.
template <int kBits, int kGroup, int kColumnTiles, int kTeams>
struct StreamShared {
  static constexpr int kStageBytes = (Layout<kBits, kGroup>::superblock_bytes(kSuperblock) + 127) & ~127;
  static constexpr int kSumPitch = kColumnTiles * 8;

  uint64_t *full, *empty;
  float* row_scale;   // [m] of the norm
  uint8_t* ring;
  uint8_t* x;         // [m][x_pitch bytes]
  float* x_sum;       // [groups of the slab][kSumPitch]
  float* partial;     // two of [warps][m][kPartialPitch], taken in turn
  float* kept;        // [tiles of the block, or one][m][kTileRows]
  int x_pitch, width, partial_size;

  __device__ __forceinline__ StreamShared(uint8_t* base, const StreamParams& p) {
    full = reinterpret_cast<uint64_t*>(base);
    empty = full + kMostStages;
    row_scale = reinterpret_cast<float*>(empty + kMostStages);
    ring = base + kBarrierBytes;
    width = min(p.slab, (p.k + kSpan - 1) / kSpan * kSpan);
    x_pitch = width * 2 + 64;  // rows half of the banks apart
    x = ring + p.stages * kStageBytes;
    x_sum = reinterpret_cast<float*>(x + p.m * x_pitch);
    partial = x_sum + width / kGroup * kSumPitch;
    partial_size = kTeams * kTeam * p.m * kPartialPitch;
    kept = partial + 2 * partial_size;
  }
};

__device__ __forceinline__ int tiles_of(int n) { return (n + kTileRows - 1) / kTileRows; }

/// Row tile `index` of a launch, counted over all segments; gate and up take turns.
struct StreamTile {
  int segment, tile;
  __device__ __forceinline__ StreamTile(const StreamParams& p, int index) {
    const int tiles0 = tiles_of(p.n0), tiles1 = tiles_of(p.n1);
    if (p.silu) segment = index & 1, tile = index >> 1;
    else if (index < tiles0) segment = 0, tile = index;
    else if (index < tiles0 + tiles1) segment = 1, tile = index - tiles0;
    else segment = 2, tile = index - tiles0 - tiles1;
  }
  template <typename T>
  __device__ __forceinline__ T pick(T first, T second, T third) const {
    return segment == 0 ? first : segment == 1 ? second : third;
  }
  __device__ __forceinline__ const uint8_t* weights(const StreamParams& p, size_t tile_bytes) const {
    return pick(p.weights0, p.weights1, p.weights2) + size_t(tile) * tile_bytes;
  }
};

/// The share of one block: tiles [first, last) over all segments; pairs stay together.
struct StreamShare {
  int first, last;
  __device__ __forceinline__ explicit StreamShare(const StreamParams& p) {
    const int units = tiles_of(p.n0) + (p.silu ? 0 : tiles_of(p.n1) + tiles_of(p.n2));
    const int each = p.silu ? 2 : 1;
    first = static_cast<int>(int64_t(units) * blockIdx.x / gridDim.x) * each;
    last = static_cast<int>(int64_t(units) * (blockIdx.x + 1) / gridDim.x) * each;
  }
};

}  // namespace exllama
