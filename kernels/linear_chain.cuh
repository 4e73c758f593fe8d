// What linear_chain.cu shares with the host: a launch, and what lies where in a block's shared memory.
#pragma once

#include "bulk_ring.cuh"
#include "quantized.cuh"

namespace exllama {

/// One linear, or several that share x.
struct ChainWeights {
  const uint8_t *weights0, *weights1, *weights2;  // row tiles of the segments
  const __half *bias0, *bias1, *bias2;            // [n] or null
  int32_t n0, n1, n2;                             // outputs; 0: no such segment
  int32_t k;                                      // inputs
  int32_t each, more;                             // row tiles (of gate and up: pairs) of every block, and blocks that have one more
};
static_assert(sizeof(ChainWeights) == 72);

/// What a launch reads and writes beside weights.
struct ChainBuffers {
  const __half* attention;             // [k of o]
  const __half *norm, *next_norm;      // [hidden] RMSNorm ahead of gate and up, and of q, k, v
  float* residual;                     // [hidden], added to
  __half *y0, *y1, *y2;                // q, k, v
  uint64_t* sums;                      // [hidden] packets: the residual stream on its way to all blocks
  uint64_t* gated;                     // [outputs of gate / 2] packets of two f16
  uint64_t* pieces;                    // packets of tiles whose k is divided
  uint32_t* epochs;                    // [blocks] launches so far
  float eps, next_eps;
  int32_t stages;                      // of the ring
  int32_t count;                       // of linears: without q, k, v one less
  int32_t x_at, spans_at, partial_at;  // in shared memory, behind the ring
  int32_t flying;                      // copies that are under way at a time, fewer than stages
  int32_t stage_magic;                 // 2^20 / stages, rounded up: divides up to 30,000 superblocks by a multiplication
  int32_t x_pitch;                     // bytes from the high digits of x to the low ones
};
static_assert(sizeof(ChainBuffers) == 128);

enum ChainLinear { kOutput, kGateUp, kDown, kNext, kChainLinears };

/// One launch.
struct ChainParams : ChainBuffers {
  ChainWeights linears[kChainLinears];
};
static_assert(sizeof(ChainParams) == 416);

constexpr int kChainWarps = 16;                    // that compute; one more copies
constexpr int kChainThreads = kChainWarps * kWarp;
constexpr int kUnit = 512;                         // k of a tile that one warp takes at a time
constexpr int kSpan = 128;                         // k between two additions to a warp's sum; what x is staged by
constexpr int kMostChainStages = 24;
constexpr int kChainBarrierBytes = 768;            // full, empty, sums of squares of the warps, the epoch
constexpr int kMostChainRows = kChainThreads;      // of the residual stream, of a block
constexpr int kChainHeadBytes = kChainBarrierBytes + kMostChainRows * 4;
static_assert(3 * kMostChainStages * 8 + kChainWarps * 4 + 4 <= kChainBarrierBytes);

/// What is common to a span of x.
struct ChainSpan {
  float factor;  // x = factor * (256 * high + low)
  int sum;       // of x / factor
};

/// What lies where in a block's dynamic shared memory; the same arithmetic as chain-launch.ts.
template <int kBits, int kGroup>
struct ChainShared {
  static constexpr int kStageBytes = (Layout<kBits, kGroup>::superblock_bytes(kSuperblock) + 127) & ~127;

  uint64_t* full;   // [rounds of the ring, even and odd][kMostChainStages]
  uint64_t* empty;
  float* squares;   // [warps]
  uint32_t* epoch;  // of the launch's first packets; the next is that of the others
  float* kept;      // [rows of the residual stream that are the block's]
  float* partial;   // [units][kTileRows]
  ChainSpan* spans; // [spans of x]
  uint8_t* x;       // [high and low digits][x_pitch]
  uint8_t* ring;

  __device__ __forceinline__ ChainShared(uint8_t* base, const ChainParams& p) {
    full = reinterpret_cast<uint64_t*>(base);
    empty = full + 2 * kMostChainStages;
    squares = reinterpret_cast<float*>(empty + kMostChainStages);
    epoch = reinterpret_cast<uint32_t*>(squares + kChainWarps);
    kept = reinterpret_cast<float*>(base + kChainBarrierBytes);
    ring = base + kChainHeadBytes;
    x = base + p.x_at;
    spans = reinterpret_cast<ChainSpan*>(base + p.spans_at);
    partial = reinterpret_cast<float*>(base + p.partial_at);
  }
};

/// The row tiles of one block: [first, first + count) over all segments; gate's and up's take turns.
struct ChainShare {
  int first, count;
  __device__ __forceinline__ ChainShare(const ChainWeights& w, bool paired, unsigned block = blockIdx.x) {
    const int more = min(static_cast<int>(block), w.more);
    first = (static_cast<int>(block) * w.each + more) << paired;
    count = (w.each + (static_cast<int>(block) < w.more)) << paired;
  }
};

/// Row tile `index` of a linear, counted over all segments; gate and up take turns.
struct ChainTile {
  int segment, tile;
  __device__ __forceinline__ ChainTile(const ChainWeights& w, bool paired, int index) {
    const int tiles0 = w.n0 / kTileRows, tiles1 = w.n1 / kTileRows;
    if (paired) segment = index & 1, tile = index >> 1;
    else if (index < tiles0) segment = 0, tile = index;
    else if (index < tiles0 + tiles1) segment = 1, tile = index - tiles0;
    else segment = 2, tile = index - tiles0 - tiles1;
  }
  template <typename T>
  __device__ __forceinline__ T pick(T first, T second, T third) const {
    return segment == 0 ? first : segment == 1 ? second : third;
  }
};

}  // namespace exllama
