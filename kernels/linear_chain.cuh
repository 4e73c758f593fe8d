// What linear_chain.cu shares with the host: a launch, and what lies where in a block's shared memory.
#pragma once

#include "bulk_ring.cuh"
#include "quantized.cuh"

namespace exllama {

/// A linear, or several that share x, the same in all layers of a launch.
struct ChainShape {
  int32_t n0, n1, n2;               // outputs of the segments; 0: no such segment
  int32_t k;                        // inputs
  int32_t each, more;               // row tiles (of gate and up: pairs) of every block; those left over
  int32_t pieces_each, pieces_more; // superblocks of those left over, where their k is divided
};
static_assert(sizeof(ChainShape) == 32);

enum ChainLinear { kOutput, kGateUp, kDown, kNext, kChainLinears };

/// Where a layer's own things lie.
struct ChainLayer {
  const uint8_t *o, *gate, *up, *down, *q, *k, *v;  // row tiles
  const __half *o_bias, *gate_bias, *up_bias, *down_bias, *q_bias, *k_bias, *v_bias;  // [outputs] or null
  const __half *in_norm, *norm;     // [hidden] RMSNorms ahead of q, k, v, and of gate and up
  const __half *q_norm, *k_norm;    // [dim] or null
  __half *k_cache, *v_cache;        // kv_cells.cuh
  const int32_t* pages;             // [pages of the sequence]
  int32_t window;                   // 0: none
  int32_t unused;
};
static_assert(sizeof(ChainLayer) == 176);

/// Row tiles and biases of a linear's segments, one after the other.
__device__ __forceinline__ int first_segment(int linear) { return 0x4310 >> 4 * linear & 15; }
__device__ __forceinline__ const uint8_t* const* weights_of(const ChainLayer& layer, int linear) { return &layer.o + first_segment(linear); }
__device__ __forceinline__ const __half* const* biases_of(const ChainLayer& layer, int linear) { return &layer.o_bias + first_segment(linear); }

/// What every launch takes. It goes from link to link. A link is o, gate and up, down of the layer with its number, and q, k, v
/// of the layer behind it, if there is one. What comes before the first layer is link -1. Buffers of packets are of one shape and
/// grid for life, and zero in the beginning.
struct ChainBuffers {
  float* residual;                     // [hidden], added to
  uint4* sums;                         // [hidden / 4] packets of four f32: the residual stream on its way to all blocks
  uint4* gated;                        // [outputs of gate / 8] packets of eight f16
  uint64_t* pieces;                    // packets of tiles whose k is divided: [pieces][halves][1 or 2 tiles][kTileRows]
  uint4* epochs;                       // [blocks] how many were used so far; how often gated, how often gathered
  float eps;                           // of all RMSNorms over the hidden state
  int32_t first_link, links;           // -1 or 0; how many
  int32_t layers;                      // of the launch's
  int32_t stages;                      // of the ring
  int32_t stage_magic;                 // 2^20 / stages, rounded up: for rounds_of()
  int32_t x_at, spans_at, partial_at;  // in shared memory, behind the ring
  int32_t x_pitch;                     // bytes from the high digits of x to the low ones
  int32_t flying, flying_tiles;        // copies that are under way at a time, fewer than stages: of weights, of keys and values
};
static_assert(sizeof(ChainBuffers) == 88);

/// What is around a link whose attentions are other launches.
struct ChainEnds {
  const __half* attention;             // [k of o]
  __half *y0, *y1, *y2;                // q, k, v
};
static_assert(sizeof(ChainEnds) == 32);

/// Of so many stages, up to 32,000: whole rounds of the ring.
__device__ __forceinline__ int rounds_of(const ChainBuffers& p, int stages) { return static_cast<unsigned>(stages) * p.stage_magic >> 20; }

struct ChainShapes {
  ChainShape linears[kChainLinears];
};

/// A launch of linear_chain.cu: one link, between two attentions.
struct ChainParams : ChainBuffers, ChainShapes, ChainEnds {
  static constexpr bool kAttends = false;
  ChainLayer layer[2];
};
static_assert(sizeof(ChainParams) == 88 + 128 + 32 + 2 * 176);

/// Of a link's linears the first, and where they end.
__device__ __forceinline__ int first_linear(int link) { return link < 0 ? kNext : kOutput; }
__device__ __forceinline__ int linears_end(const ChainBuffers& p, int link) { return link + 1 < p.layers ? kChainLinears : kNext; }
template <typename Params>
__device__ __forceinline__ const ChainLayer& layer_of(const Params& p, int link, int linear) {
  return p.layer[link + (linear == kNext)];
}

constexpr int kChainWarps = 16;                    // that compute
constexpr int kChainThreads = kChainWarps * kWarp;
constexpr int kChainBlock = kChainThreads + 128;   // one thread more copies; registers move between warpgroups
constexpr int kChainRegisters = 112, kChainCopyRegisters = 32;
// A block is launched with 96 for each of its threads, and who asks for more than there are waits for ever.
static_assert(kChainThreads * kChainRegisters + (kChainBlock - kChainThreads) * kChainCopyRegisters <= 96 * kChainBlock);
constexpr int kUnit = 512;                         // k of a tile that one warp takes at a time
constexpr int kSpan = 128;                         // k between two additions to a warp's sum; what x is staged by
constexpr int kMostChainStages = 24;
constexpr int kChainBarrierBytes = 768;            // full, empty, sums of squares of the warps, the cut of attention, the epoch
constexpr int kChainCutBytes = 32;
constexpr int kMostChainRows = kChainThreads;      // of the residual stream, of a block
constexpr int kChainHeadBytes = kChainBarrierBytes + kMostChainRows * 4;
static_assert(3 * kMostChainStages * 8 + kChainWarps * 4 + kChainCutBytes + 12 <= kChainBarrierBytes);

/// Epochs of a link, counted from its first: what packets are of.
enum ChainEpoch { kAfterOutput, kAfterDown, kHeads, kParts, kPieces, kChainEpochs = kPieces + kChainLinears };

/// What is common to a span of x.
struct ChainSpan {
  float factor;  // x = factor * (256 * high + low)
  int sum;       // of x / factor
};

struct AttentionCut;

/// What lies where in a block's dynamic shared memory; the same arithmetic as chain-launch.ts.
template <int kBits, int kGroup>
struct ChainShared {
  static constexpr int kStageBytes = (Layout<kBits, kGroup>::superblock_bytes(kSuperblock) + 127) & ~127;

  uint64_t* full;   // [rounds of the ring, even and odd][kMostChainStages]
  uint64_t* empty;
  float* squares;   // [warps]
  AttentionCut* cut;  // of the layer before, and of those behind that look as far back
  uint32_t* epoch;  // [3] the first of the launch's, see ChainEpoch; what gated and gathered of link 0 are marked with
  float* kept;      // [rows of the residual stream that are the block's]
  float* partial;   // [units][kTileRows], of whole parts; behind them those of a part that others send
  ChainSpan* spans; // [spans of x]
  uint8_t* x;       // [high and low digits][x_pitch]
  uint8_t* ring;

  __device__ __forceinline__ ChainShared(uint8_t* base, const ChainBuffers& p) {
    full = reinterpret_cast<uint64_t*>(base);
    empty = full + 2 * kMostChainStages;
    squares = reinterpret_cast<float*>(empty + kMostChainStages);
    cut = reinterpret_cast<AttentionCut*>(squares + kChainWarps);
    epoch = reinterpret_cast<uint32_t*>(squares + kChainWarps + kChainCutBytes / 4);
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
/// blocks idle, its superblocks are dealt out to all blocks ("pieces"), and their sums sent to the one that has the part. Pieces come
/// first: so they have arrived when that block is through with its own parts.
struct ChainShare {
  int block, each, parts;           // of them whole; the last one may be one left over
  int superblocks;                  // of a row tile
  int first_piece, pieces;          // piece i: superblock i % superblocks of the left-over part i / superblocks
  bool paired, has_divided;         // a left-over part's sums come to this block
  int left_over;                    // index of the first part left over

  __device__ __forceinline__ ChainShare(const ChainShape& w, bool is_pair, int of_block = blockIdx.x) {
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
  __device__ __forceinline__ ChainTile(const ChainShape& w, bool paired, int part, int of_pair) {
    const int tiles0 = w.n0 / kTileRows, tiles1 = w.n1 / kTileRows;
    if (paired) segment = of_pair, tile = part;
    else if (part < tiles0) segment = 0, tile = part;
    else if (part < tiles0 + tiles1) segment = 1, tile = part - tiles0;
    else segment = 2, tile = part - tiles0 - tiles1;
  }
};

}  // namespace exllama
