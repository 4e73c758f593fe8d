// What linear_chain_rows.cu shares with the host: a launch, and what lies where in a block's shared memory.
#pragma once

#include "deferred_norm.cuh"
#include "linear_chain.cuh"

namespace exllama {

constexpr int kChainRows = 8;                        // tokens that there is room for
constexpr int kPartSuperblocks = 4;                  // x is staged by so many at a time
constexpr int kPartK = kPartSuperblocks * kSuperblock;
constexpr int kPartSpans = kPartK / kSpan;
constexpr int kRowsChunkBytes = 2 * kChainRows * kChunk;  // of x: high digits, low digits
constexpr int kPartBytes = kPartK / kChunk * kRowsChunkBytes + kPartSpans * kChainRows * 8;
constexpr int kQuarter = kSuperblock / 4;            // k of a tile that one warp takes at a time
constexpr int kRowsWays = 4;                         // sums of a tile, each of a quarter of every superblock
constexpr int kRowsWaysApart = 2 * kRowsWays;        // and of every second superblock, where a block has few tiles: six would leave
constexpr int kMostTilesApart = 6;                   // half of the warps idle half of the time (7B, us of a link: 43.0 and 42.6)
constexpr int kRowsSumBytes = kTileRows * kChainRows * 4;  // of a tile
constexpr int kMostSplits = 4;                       // of k of o and down
constexpr int kMostKeptTiles = 8;                    // of the residual stream, of a block
constexpr int kRowsBarrierBytes = 1408;              // full, empty, squares of the warps, what x carries, uses so far
constexpr int kRowsHeadBytes = kRowsBarrierBytes + kMostKeptTiles * kRowsSumBytes;
static_assert(kPartSpans == 2 * kChainWarps && kPartBytes == 67584);
static_assert(3 * kMostChainStages * 8 + (kChainWarps + 1) * kChainRows * 4 + kChainWarps * 16 <= kRowsBarrierBytes && kRowsHeadBytes % 128 == 0);

/// What a launch takes beside shapes and layers. Buffers of packets are of one shape for life, and zero in the beginning.
struct ChainRows {
  float* residual;             // [m][hidden], added to
  const __half* attention;     // [m][k of o]
  __half *y0, *y1, *y2;        // [m] rows of q, k, v
  const float* carried;        // [m] factors of the norm before, which the first x that is sent carries
  float* left;                 // [m] where factors of the link's last norm are left; may be `carried`
  uint4* normed;               // [hidden / 8][kChainRows] packets of eight f16: x of norms that are put off
  uint4* squares;              // [hidden / 16 + 1][2] packets of four f32: each token's, and at the end what x carries
  uint4* gated;                // [outputs of gate / 8][kChainRows] packets of eight f16
  uint4* pieces;               // [hidden / 16][2^split_bits][kWarp] packets of four f32: sums over a part of k
  uint4* epochs;               // [blocks] how often normed, gated, pieces were used so far
  float eps;                   // of all RMSNorms over the hidden state
  int32_t m;                   // tokens
  int32_t first_link;          // -1: q, k, v of layer[0] alone; 0: a link that begins with o of layer[0]
  int32_t layers;              // 1, or 2 where q, k, v of layer[1] follow
  int32_t stages;              // of the ring
  int32_t stage_magic;         // 2^20 / stages, rounded up: for rounds_of()
  int32_t x_at, sums_at;       // in shared memory, behind the ring: a part of x; kRowsSumBytes for each way of each tile
  int32_t flying;              // copies that are under way at a time, fewer than stages
  int32_t split_bits;          // 2^split_bits blocks have the same row tiles of o and down, each another part of their k
};
static_assert(sizeof(ChainRows) == 136);

/// Up to eight tokens through one link: o, gate and up, down of a layer, and q, k, v of the one behind it, if there is one; or only the latter.
struct ChainRowsParams : ChainShapes, ChainRows {
  ChainLayer layer[2];
};
static_assert(sizeof(ChainRowsParams) == 128 + 136 + 2 * 176);

/// What one block does of a linear: row tiles, or pairs of gate's and up's, dealt out whole to groups of blocks, which divide their k
/// superblock by superblock. A tile's results are made by one of its group.
struct RowsShare {
  int bits, group, split;
  int each, left_over, parts;  // left_over: index of the first part that not all groups have
  int first, k;                // inputs that are the block's
  bool paired;

  __device__ __forceinline__ RowsShare(const ChainRowsParams& p, int linear, int block = blockIdx.x) {
    const ChainShape& w = p.linears[linear];
    paired = linear == kGateUp, bits = linear == kOutput || linear == kDown ? p.split_bits : 0;
    const int groups = gridDim.x >> bits;
    group = block >> bits, split = block & ((1 << bits) - 1);
    each = w.each, left_over = groups * each, parts = group < groups ? each + (group < w.more) : 0;
    const int superblocks = (w.k + kSuperblock - 1) / kSuperblock;
    first = (superblocks * split >> bits) * kSuperblock;
    k = min(w.k, (superblocks * (split + 1) >> bits) * kSuperblock) - first;
  }
  __device__ __forceinline__ int tiles() const { return parts << paired; }
  /// Index of part number t.
  __device__ __forceinline__ int part(int t) const { return t < each ? group * each + t : left_over + group; }
  /// Whether the results of part number t are this block's.
  __device__ __forceinline__ bool is_own(int t) const { return (t & ((1 << bits) - 1)) == split; }
};

/// How many sums there are of each of `tiles` row tiles of a block.
__host__ __device__ constexpr int rows_ways(int tiles) { return tiles <= kMostTilesApart ? kRowsWaysApart : kRowsWays; }

/// What lies where in a block's dynamic shared memory; the same arithmetic as chain-rows-launch.ts.
struct ChainRowsShared {
  static constexpr int kStageBytes = (Layout<4, 128>::superblock_bytes(kSuperblock) + 127) & ~127;

  uint64_t* full;   // [rounds of the ring, even and odd][kMostChainStages]
  uint64_t* empty;
  float* squares;   // [warps][kChainRows]
  float* carried;   // [kChainRows] by x that is on its way or there
  uint4* used;      // [warps] how often normed, gated and pieces were used before this launch
  float4* kept;     // [tiles of the residual stream that are the block's][kWarp]: rows g and g + 8 of tokens 2 t and 2 t + 1
  uint8_t* ring;
  uint8_t* x;       // kPartBytes: see RowsSpan
  float4* sums;     // [tiles][ways][kWarp], as kept

  __device__ __forceinline__ ChainRowsShared(uint8_t* base, const ChainRowsParams& p) {
    full = reinterpret_cast<uint64_t*>(base);
    empty = full + 2 * kMostChainStages;
    squares = reinterpret_cast<float*>(empty + kMostChainStages);
    carried = squares + kChainWarps * kChainRows;
    used = reinterpret_cast<uint4*>(carried + kChainRows);
    kept = reinterpret_cast<float4*>(base + kRowsBarrierBytes);
    ring = base + kRowsHeadBytes;
    x = base + p.x_at;
    sums = reinterpret_cast<float4*>(base + p.sums_at);
  }
};

}  // namespace exllama
