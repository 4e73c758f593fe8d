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
  int32_t each, more;                             // row tiles (of gate and up: pairs) of every block; those left over
  int32_t pieces_each, pieces_more;               // superblocks of those left over, where their k is divided
};
static_assert(sizeof(ChainWeights) == 80);

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
static_assert(sizeof(ChainParams) == 448);

constexpr int kChainWarps = 16;                    // that compute; one more copies
constexpr int kChainThreads = kChainWarps * kWarp;
constexpr int kUnit = 512;                         // k of a tile that one warp takes at a time
constexpr int kSpan = 128;                         // k between two additions to a warp's sum; what x is staged by
constexpr int kMostChainStages = 24;
constexpr int kChainBarrierBytes = 768;            // full, empty, sums of squares of the warps, the epoch, bases
constexpr int kMostChainRows = kChainThreads;      // of the residual stream, of a block
constexpr int kChainZeroBytes = 128;                // what a span's x is in the columns of others
constexpr int kChainHeadBytes = kChainBarrierBytes + kMostChainRows * 4 + kChainZeroBytes;
static_assert(3 * kMostChainStages * 8 + kChainWarps * 4 + 4 + kChainLinears * 4 <= kChainBarrierBytes);

/// Epochs of a launch, counted from its first: what packets are of.
enum ChainEpoch { kAfterOutput, kGated, kAfterDown, kPieces, kChainEpochs = kPieces + kChainLinears };

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
  uint32_t* epoch;  // the first of the launch's, see ChainEpoch
  int* bases;       // superblocks of the launch before each linear
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
    bases = reinterpret_cast<int*>(epoch + 1);
    kept = reinterpret_cast<float*>(base + kChainBarrierBytes);
    ring = base + kChainHeadBytes;
    x = base + p.x_at;
    spans = reinterpret_cast<ChainSpan*>(base + p.spans_at);
    partial = reinterpret_cast<float*>(base + p.partial_at);
  }
};

/// The warps that compute.
__device__ __forceinline__ void meet_chain() { asm volatile("bar.sync 1, %0;" ::"n"(kChainThreads) : "memory"); }

/// What one block does of a linear. A "part" is a row tile, or a pair of gate's and up's.
///
/// Every block has `each` parts. What is left over is one part more for some blocks; or, where that would leave too many
/// blocks idle, its superblocks are dealt out to all blocks ("pieces"), and their sums sent to the one that has the part.
struct ChainShare {
  int block, each, parts;           // of them whole; the last one may be one left over
  int superblocks;                  // of a row tile
  int first_piece, pieces;          // piece i: superblock i % superblocks of the left-over part i / superblocks
  bool paired, has_divided;         // a left-over part's sums come to this block
  int left_over;                    // index of the first part left over

  __device__ __forceinline__ ChainShare(const ChainWeights& w, bool is_pair, int of_block = blockIdx.x) {
    block = of_block, paired = is_pair, each = w.each;
    superblocks = (w.k + kSuperblock - 1) / kSuperblock;
    first_piece = block * w.pieces_each + min(block, w.pieces_more);
    pieces = w.pieces_each + (block < w.pieces_more);
    const bool divided = w.pieces_each + w.pieces_more > 0, one_more = block < w.more;
    parts = each + (one_more && !divided);
    has_divided = one_more && divided;
    left_over = gridDim.x * each;
  }
  /// Index of this block's part number t, and of the one left over.
  __device__ __forceinline__ int part(int t) const { return t < each ? block * each + t : left_over + block; }
  __device__ __forceinline__ int whole() const { return (parts << paired) * superblocks; }
  /// Superblocks that go through the block's ring.
  __device__ __forceinline__ int all() const { return whole() + (pieces << paired); }
};

/// A row tile of a linear: `part` counted over all segments.
struct ChainTile {
  int segment, tile;
  __device__ __forceinline__ ChainTile(const ChainWeights& w, bool paired, int part, int of_pair) {
    const int tiles0 = w.n0 / kTileRows, tiles1 = w.n1 / kTileRows;
    if (paired) segment = of_pair, tile = part;
    else if (part < tiles0) segment = 0, tile = part;
    else if (part < tiles0 + tiles1) segment = 1, tile = part - tiles0;
    else segment = 2, tile = part - tiles0 - tiles1;
  }
  template <typename T>
  __device__ __forceinline__ T pick(T first, T second, T third) const {
    return segment == 0 ? first : segment == 1 ? second : third;
  }
};

}  // namespace exllama
