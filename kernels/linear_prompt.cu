// Quantised linears of whole prompts on Hopper, the weights unpacked inside the product: y[m, n] = x w^T with
// 4 bits, no slab of expanded weights in between.
//
// linear_prompt_q4_g{32,64,128}_t{256,240,192,160,128}
//   Strategy   Block tile 128 outputs x kN tokens, k in steps of 64, y^T = w x^T: weights are operand A of the warpgroup
//              products and never leave registers, x is operand B and lies in shared memory. Two warpgroups compute 64
//              outputs each, fp32 in registers over the whole of k; one thread of a third fills a ring with x (copy
//              engine). While 32 k are multiplied and 32 more wait behind them, a warp unpacks those that come 64 k later into
//              the fragments that have become free, and has asked for the codes of two steps after that (16 bytes per lane
//              and step, straight from device memory: its own row tile's, nobody else's). Blocks are persistent; tokens run
//              fastest, so that blocks which run together read the same weights.
//   results    As f16, turned by stmatrix, or f32, in pieces through shared memory, written by the copy engine while the next tile
//              begins. Onto the residual stream it adds them itself: exactly one number to each place in a launch, so
//              that no order of additions is left open. That part of it has been brought to L2 meanwhile.
//   silu       The first warpgroup has 64 rows of gate, the second the same rows of up; each hands the other what it has of
//              half of the tokens.
//   barriers   full[s]: one arrival (the copying thread, which expects kStageBytes) and those bytes, always whole: what lies
//              outside of x is zeros. empty[s]: eight arrivals, lane 0 of each computing warp once per step. Both
//              sides walk the same tiles and steps, so every phase ends; no block waits for another but in a cluster.
//   cut        Where tiles are too few for the card, a cluster of two to four blocks has one tile, each block a part of the k (steps
//              of 128, as even as they go). When all of a cluster have read their rings (one barrier of the cluster), each sends
//              the others its sums of the tokens that they finish, into their rings (st.async, counted by a barrier there whose wait
//              is bounded), and adds what it is sent to its own in the order of k. Not with silu. Clusters run at once by themselves: no circle.
// Bits         Every output is summed over k in steps of 16 in ascending order whatever kN, the grid or the tile; with a cut the sums of
//              its parts are added in ascending order: by the launch's shape and the card, never by timing.
// Layout       quantized.cuh; weights are those of expand_*: fp16(scale * (code - zero))
// Limits       sm_90a (not there elsewhere); k % 128 == 0, n % 8 == 0, 16-byte aligned x, y; any m
// Reference    linear_q4_g*_ref of linear_quantized.cu; the slabs of linear_half.cu
#include "clusters.cuh"
#include "linear_prompt.cuh"
#include "tensor_map.cuh"

namespace exllama {

struct PromptLinear {
  const uint8_t* weights0;     // row tiles of up to three linears that read the same x
  const uint8_t* weights1;
  const uint8_t* weights2;
  const __half* bias0;         // [n] or null
  const __half* bias1;
  const __half* bias2;
  int32_t n0, n1, n2;          // 0: there is none
  int32_t m, k;
  int32_t form;                // of y: 0 f16, 1 f32, 2 f32 added to what is there
  int32_t silu;                // f16 silu(first linear) * second, as the first one's y
  int32_t cut;                 // parts of k, each a block of a cluster of that size; 1: no clusters
};
static_assert(sizeof(PromptLinear) == 80);

struct TensorPromptParams {
  TensorMap x_map;             // boxes of 64 k x kN tokens, 128-byte swizzle (tensor-map.ts)
  TensorMap y_map[3];          // boxes of 64 outputs x kPiece tokens in f16, of 32 x kPiece / 2 in f32; 128-byte swizzle
  PromptLinear linear;
};
static_assert(sizeof(TensorPromptParams) == 640);

constexpr int kPromptOutputs = 128, kPromptK = 64, kMostCut = 4;

template <int kN>
struct PromptTile {
  static constexpr int kStageBytes = kN * kPromptK * 2;
  static constexpr int kStages = 196608 / kStageBytes < 8 ? 196608 / kStageBytes : 8;
  static constexpr int kPiece = kN % 80 == 0 ? 80 : 64;  // tokens of an f16 result that are written at once
  static constexpr int kPieces = kN / kPiece;
  static constexpr int kPieceBytes = kPiece * 128;
  static constexpr int kStagingAt = kStages * kStageBytes, kBarriersAt = kStagingAt + 4 * kPieceBytes;
  static constexpr int kHandedAt = kBarriersAt + 16 * kStages;
  static constexpr int kShared = 1024 + kHandedAt + 16;  // from a multiple of 1024 on
  static_assert(kN % kPiece == 0 && kPiece % 16 == 0 && kStageBytes % 1024 == 0 && kPieceBytes % 2048 == 0 && kShared <= 232448);

  // What the blocks of a cluster hand each other: f32 sums of kPiece / 2 tokens at once, in the ring.
  static constexpr int kHanded = kPiece / 2, kHandedBytes = kHanded * kPromptOutputs * 4;
  static constexpr bool holds_parts(int cut) { return cut * 2 * ((kPieces + cut - 1) / cut) * kHandedBytes <= kStagingAt; }
  static_assert(holds_parts(2) && holds_parts(3) && holds_parts(kMostCut) && kHanded % 8 == 0);
};
static_assert(PromptTile<256>::kShared == 230512 && PromptTile<240>::kShared == 226416);
static_assert(PromptTile<192>::kShared == 230544 && PromptTile<160>::kShared == 205968 && PromptTile<128>::kShared == 165008);

#ifdef EXLLAMA_WGMMA

template <int kN>
struct PromptRing {
  static constexpr int kStages = PromptTile<kN>::kStages;
  uint32_t stages, barriers;  // shared addresses
  int slot = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ uint32_t x() const { return stages + slot * PromptTile<kN>::kStageBytes; }
  __device__ __forceinline__ uint32_t full() const { return barriers + slot * 8; }
  __device__ __forceinline__ uint32_t empty() const { return barriers + (kStages + slot) * 8; }
  __device__ __forceinline__ void advance() {
    if (++slot == kStages) slot = 0, parity ^= 1;
  }
};

/// x / cut for x < 98304.
__device__ __forceinline__ int over_cut(const PromptLinear& p, int x) {
  static_assert(kMostCut == 4);
  return p.cut == 3 ? uint32_t(x) * 43691u >> 17 : x >> (p.cut >> 1);
}
// A cluster is `cut` blocks in a row, for one tile: gridDim.x further there is none.
__device__ __forceinline__ int first_tile(const PromptLinear& p) { return over_cut(p, blockIdx.x); }
__device__ __forceinline__ int prompt_rank(const PromptLinear& p) { return blockIdx.x - first_tile(p) * p.cut; }

/// Where the i-th tile of a launch lies.
struct PromptPlace {
  int token0, linear, row0;  // row0: the block's first output in its linear

  template <int kN>
  __device__ __forceinline__ static PromptPlace of(const PromptLinear& p, int tile) {
    const int across = (p.m + kN - 1) / kN;
    int row = tile / across, linear = 0;
    if (p.silu) return {tile % across * kN, 0, row * (kPromptOutputs / 2)};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int rows = (of_linear(i, p.n0, p.n1, p.n2) + kPromptOutputs - 1) / kPromptOutputs;
      if (linear == i && row >= rows) row -= rows, ++linear;
    }
    return {tile % across * kN, linear, row * kPromptOutputs};
  }
};

template <int kN>
__device__ __forceinline__ int prompt_tiles(const PromptLinear& p) {
  const int across = (p.m + kN - 1) / kN;
  if (p.silu) return (p.n0 + kPromptOutputs / 2 - 1) / (kPromptOutputs / 2) * across;
  int rows = 0;
#pragma unroll
  for (int i = 0; i < 3; ++i) rows += (of_linear(i, p.n0, p.n1, p.n2) + kPromptOutputs - 1) / kPromptOutputs;
  return rows * across;
}

/// The part of k that a block of a cluster multiplies, in pairs of steps; without clusters all of it.
struct PromptPart {
  int first, end;

  __device__ __forceinline__ static PromptPart of(const PromptLinear& p) {
    const int pairs = p.k / (2 * kPromptK), rank = prompt_rank(p);
    return {over_cut(p, rank * pairs), over_cut(p, (rank + 1) * pairs)};
  }
  __device__ __forceinline__ int count() const { return end - first; }
};

/// The pieces of a tile that one of its cluster's blocks finishes: of kPiece tokens in f16, of half as many in f32. Pieces with
/// no token in them are nobody's.
struct PromptShare {
  int first, end;

  template <int kN>
  __device__ __forceinline__ static PromptShare of(const PromptLinear& p, int token0, int rank) {
    constexpr int kWhole = PromptTile<kN>::kPiece, kHalf = kWhole / 2;
    const int tokens = min(p.m - token0, kN), pieces = p.form == 0 ? (tokens + kWhole - 1) / kWhole : (tokens + kHalf - 1) / kHalf;
    return {over_cut(p, rank * pieces + p.cut - 1), over_cut(p, (rank + 1) * pieces + p.cut - 1)};
  }
};

/// The copying thread.
template <int kN>
__device__ __forceinline__ void copy_prompt(const TensorPromptParams& p, PromptRing<kN> ring) {
  const PromptPart part = PromptPart::of(p.linear);
  const int end = 2 * part.end, tiles = prompt_tiles<kN>(p.linear), across = (p.linear.m + kN - 1) / kN;
  for (int tile = first_tile(p.linear); tile < tiles; tile += gridDim.x) {
    const int token0 = tile % across * kN;
    const PromptPlace place = PromptPlace::of<kN>(p.linear, tile);
    const PromptShare share = PromptShare::of<kN>(p.linear, token0, prompt_rank(p.linear));
    for (int step = 2 * part.first; step < end; ++step) {
      barrier_wait(ring.empty(), ring.parity ^ 1);
      barrier_expect(ring.full(), PromptTile<kN>::kStageBytes);
      copy_box(ring.x(), &p.x_map, step * kPromptK, token0, ring.full());
      ring.advance();
      // What the results will be added to, a box per step before the last.
      const int box = 4 * share.end - (end - step);
      if (p.linear.form == 2 && box >= 4 * share.first)
        prefetch_box(&p.y_map[place.linear], place.row0 + 32 * (box % 4), token0 + box / 4 * (PromptTile<kN>::kPiece / 2));
    }
  }
}

/// A warp's row tile, chunk after chunk from its part of k on, through all tiles of its block; behind the last one some other.
template <int kGroup, int kN>
struct PromptFeed {
  const PromptLinear& p;
  const uint8_t* superblock;
  int rest, chunk;  // inputs from the superblock's first on, chunk in it
  int tile, warp, lane;

  __device__ __forceinline__ PromptFeed(const PromptLinear& p, int warp, int lane) : p(p), tile(first_tile(p)), warp(warp), lane(lane) {
    begin_tile();
    const int first = PromptPart::of(p).first * 2, before = first / (kSuperblock / kChunk);  // chunks, superblocks
    superblock += before * Layout<4, kGroup>::superblock_bytes(kSuperblock);
    rest -= before * kSuperblock, chunk = first % (kSuperblock / kChunk);
  }

  __device__ __forceinline__ void begin_tile() {
    const PromptPlace place = PromptPlace::of<kN>(p, tile < prompt_tiles<kN>(p) ? tile : 0);
    const int linear = p.silu ? warp / 4 : place.linear;
    const int row = place.row0 / kTileRows + (p.silu ? warp % 4 : warp);
    const uint8_t* weights = of_linear(linear, p.weights0, p.weights1, p.weights2);
    const int n = of_linear(linear, p.n0, p.n1, p.n2);
    superblock = weights + size_t(min(row, (n + kTileRows - 1) / kTileRows - 1)) * Layout<4, kGroup>::tile_bytes(p.k);
    rest = p.k, chunk = 0;
  }

  __device__ __forceinline__ void next(PackedChunk<kGroup>& packed) {
    const int k = min(kSuperblock, rest);
    packed.load(superblock, k, chunk, lane);
    if (++chunk < k / kChunk) return;
    superblock += Layout<4, kGroup>::superblock_bytes(kSuperblock);
    rest -= k, chunk = 0;
    if (rest > 0) return;
    tile += gridDim.x;
    begin_tile();
  }
};

/// The 128 threads of a computing warpgroup (0 or 1), or both.
__device__ __forceinline__ void meet_group(int group) {
  if (group == 0) asm volatile("bar.sync 1, 128;" ::: "memory");
  else asm volatile("bar.sync 2, 128;" ::: "memory");
}
__device__ __forceinline__ void meet_both() { asm volatile("bar.sync 3, 256;" ::: "memory"); }

/// How a warpgroup's results leave it: two pieces of shared memory in turn.
template <int kN>
struct PromptStaging {
  using Tile = PromptTile<kN>;
  uint32_t pieces;
  int group, warp, lane;  // warp of the group
  uint32_t turn = 0;

  __device__ __forceinline__ bool issues() const { return warp == 0 && lane == 0; }

  /// A piece that nothing reads any more, all threads of the group meeting.
  __device__ __forceinline__ uint32_t take() {
    if (issues()) store_wait_read<1>();
    meet_group(group);
    const uint32_t piece = pieces + turn * Tile::kPieceBytes;
    turn ^= 1;
    return piece;
  }
  __device__ __forceinline__ void filled() {
    publish_shared();
    meet_group(group);
  }

  /// f16: kPiece tokens of 64 outputs, kPiece / 4 pairs of a thread.
  __device__ __forceinline__ void store_f16(const void* map, int output0, int token0, const uint32_t* pairs) {
    const uint32_t piece = take();
    const int row = lane % 8 + lane / 16 * 8, cell = 2 * warp + lane / 8 % 2;
#pragma unroll
    for (int i = 0; i < Tile::kPiece / 16; ++i) {
      uint32_t r[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) r[e] = pairs[4 * i + e];
      store_matrix_x4_transposed(piece + (16 * i + row) * 128 + ((cell ^ (row & 7)) << 4), r);
    }
    filled();
    if (issues()) {
      store_box(map, output0, token0, piece);
      store_commit();
    }
  }

  /// f32: kPiece / 2 tokens.
  __device__ __forceinline__ void store_f32(const void* map, int output0, int token0, const float* sum, float2 bias, bool add) {
    constexpr int kTokens = Tile::kPiece / 2;
    const uint32_t piece = take();
    const int g = lane / 4, t = lane % 4, cell = warp % 2 * 4 + g / 4;
    const uint32_t to = piece + warp / 2 * (kTokens * 128) + g % 4 * 4;
#pragma unroll
    for (int j = 0; j < kTokens / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = 2 * t + e % 2;
        const float v = sum[4 * j + e] + (e < 2 ? bias.x : bias.y);
        asm volatile("st.shared.f32 [%0], %1;" ::"r"(to + (8 * j + row) * 128 + (((cell + e / 2 * 2) ^ row) << 4)), "f"(v) : "memory");
      }
    filled();
    if (issues()) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t from = piece + half * (kTokens * 128);
        if (add) add_box(map, output0 + 32 * half, token0, from);
        else store_box(map, output0 + 32 * half, token0, from);
      }
      store_commit();
    }
  }

  template <int kFirst>
  __device__ __forceinline__ void all_f32(const void* map, int output0, int token0, const float (&sum)[kN / 2], float2 bias, bool add) {
    if constexpr (kFirst < kN) {
      store_f32(map, output0, token0 + kFirst, sum + kFirst / 2, bias, add);
      all_f32<kFirst + Tile::kPiece / 2>(map, output0, token0, sum, bias, add);
    }
  }
  template <int kFirst, int kEnd>
  __device__ __forceinline__ void all_f16(const void* map, int output0, int token0, const uint32_t (&pairs)[kN / 4]) {
    if constexpr (kFirst < kEnd) {
      store_f16(map, output0, token0 + kFirst, pairs + kFirst / 4);
      all_f16<kFirst + Tile::kPiece, kEnd>(map, output0, token0, pairs);
    }
  }
};

__device__ __forceinline__ uint32_t half_pair(float a, float b) {
  const __half2 pair = __floats2half2_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

/// silu(gate) * up of two tokens, the operands rounded to fp16 as they would be in memory.
__device__ __forceinline__ uint32_t gated_pair(uint32_t gates, uint32_t ups) {
  const float2 a = __half22float2(*reinterpret_cast<const __half2*>(&gates)), b = __half22float2(*reinterpret_cast<const __half2*>(&ups));
  return half_pair(__fdividef(a.x, 1.f + __expf(-a.x)) * b.x, __fdividef(a.y, 1.f + __expf(-a.y)) * b.y);
}

/// Both warpgroups have the same tokens and rows, one of gate and one of up: each finishes the tokens of its own range and
/// hands over its rows of the other one's, in its own staging for as long as they meet.
template <int kFirst, int kEnd, int kSendFirst, int kSendEnd, bool kGate, int kN>
__device__ __forceinline__ void store_gated(PromptStaging<kN>& staging, const void* map, int output0, int token0, uint32_t (&pairs)[kN / 4]) {
  static_assert((kSendEnd - kSendFirst) * 128 <= 2 * PromptTile<kN>::kPieceBytes && (kEnd - kFirst) % 16 == 0 && (kSendEnd - kSendFirst) % 16 == 0);
  const uint32_t own_words = staging.pieces + (staging.warp * kWarp + staging.lane) * 16;
  const uint32_t other_words = kGate ? own_words + 2 * PromptTile<kN>::kPieceBytes : own_words - 2 * PromptTile<kN>::kPieceBytes;
  if (staging.issues()) store_wait_read<0>();
  meet_group(staging.group);
#pragma unroll
  for (int i = 0; i < (kSendEnd - kSendFirst) / 16; ++i) {
    const uint32_t* four = pairs + kSendFirst / 4 + 4 * i;
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(own_words + i * 2048), "r"(four[0]), "r"(four[1]), "r"(four[2]), "r"(four[3])
                 : "memory");
  }
  meet_both();
#pragma unroll
  for (int i = 0; i < (kEnd - kFirst) / 16; ++i) {
    uint32_t other[4];
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(other[0]), "=r"(other[1]), "=r"(other[2]), "=r"(other[3])
                 : "r"(other_words + i * 2048)
                 : "memory");
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      uint32_t& mine = pairs[kFirst / 4 + 4 * i + e];
      mine = kGate ? gated_pair(mine, other[e]) : gated_pair(other[e], mine);
    }
  }
  meet_both();
  staging.template all_f16<kFirst, kEnd>(map, output0, token0, pairs);
}

/// Of the rows that a thread has sums of, g and g + 8 from `row` on.
__device__ __forceinline__ float2 bias_of_rows(const PromptLinear& p, int linear, int row) {
  const __half* biases = of_linear(linear, p.bias0, p.bias1, p.bias2);
  const int n = of_linear(linear, p.n0, p.n1, p.n2);
  float2 bias = make_float2(0.f, 0.f);
  if (biases != nullptr) {
    if (row < n) bias.x = __half2float(__ldg(biases + row));
    if (row + 8 < n) bias.y = __half2float(__ldg(biases + row + 8));
  }
  return bias;
}

template <int kN>
__device__ __forceinline__ void store_prompt(const TensorPromptParams& params, int tile, PromptStaging<kN>& staging, const float (&sum)[kN / 2]) {
  const PromptLinear& p = params.linear;
  const PromptPlace place = PromptPlace::of<kN>(p, tile);
  const int output0 = place.row0 + (p.silu ? 0 : kPromptOutputs / 2 * staging.group);
  const float2 bias = bias_of_rows(p, p.silu ? staging.group : place.linear, output0 + 16 * staging.warp + staging.lane / 4);
  const void* map = &params.y_map[place.linear];
  if (p.form == 0) {
    uint32_t pairs[kN / 4];  // rows g, g + 8 of the first two tokens of eight, of the next two, ...
#pragma unroll
    for (int i = 0; i < kN / 4; ++i) {
      pairs[i] = half_pair(sum[2 * i] + (i % 2 ? bias.y : bias.x), sum[2 * i + 1] + (i % 2 ? bias.y : bias.x));
      asm volatile("" : "+r"(pairs[i]));  // here and now, so that sums need no registers any more
    }
    constexpr int kCut = (PromptTile<kN>::kPieces + 1) / 2 * PromptTile<kN>::kPiece;
    if (!p.silu) staging.template all_f16<0, kN>(map, output0, place.token0, pairs);
    else if (staging.group == 0) store_gated<0, kCut, kCut, kN, true>(staging, map, output0, place.token0, pairs);
    else store_gated<kCut, kN, 0, kCut, false>(staging, map, output0, place.token0, pairs);
  } else {
    staging.template all_f32<0>(map, output0, place.token0, sum, bias, p.form == 2);
  }
}

__device__ __forceinline__ void store_shared_four(uint32_t to, const float* four) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(four[0]), "f"(four[1]), "f"(four[2]), "f"(four[3]) : "memory");
}

/// Each block of a cluster hands every other its sums of what that one finishes: in its ring, which products have read to the end and
/// copies do not fill again. Its own go there as well, so that nobody needs sums in registers afterwards.
template <int kN>
__device__ __forceinline__ void hand_parts(const PromptLinear& p, int token0, uint32_t ring, uint32_t barrier, int thread, const float (&sum)[kN / 2]) {
  using Tile = PromptTile<kN>;
  const int rank = prompt_rank(p), per_piece = p.form == 0 ? 2 : 1;
  meet_cluster();  // the others' rings are free, too
#pragma unroll 1
  for (int i = 0; i < p.cut; ++i) {
    const int to = rank + i < p.cut ? rank + i : rank + i - p.cut;
    const PromptShare share = PromptShare::of<kN>(p, token0, to);
    const int first = share.first * per_piece, count = (share.end - share.first) * per_piece;
    const uint32_t own = ring + rank * count * Tile::kHandedBytes + thread * 16;
    const uint32_t at = cluster_address(own, to), arrived = cluster_address(barrier, to);
    if (i == 0 && thread == 0) barrier_expect(barrier, (p.cut - 1) * count * Tile::kHandedBytes);
#pragma unroll
    for (int handed = 0; handed < kN / Tile::kHanded; ++handed) {
      if (unsigned(handed - first) >= unsigned(count)) continue;
#pragma unroll
      for (int j = 0; j < Tile::kHanded / 8; ++j) {
        const int offset = (handed - first) * Tile::kHandedBytes + j * (256 * 16);
        const float* four = sum + (handed * (Tile::kHanded / 8) + j) * 4;
        if (i == 0) store_shared_four(own + offset, four);
        else store_cluster(at + offset, four, arrived);
      }
    }
  }
  wait_handed(barrier);
}

__device__ __forceinline__ float4 load_shared_four(uint32_t from) {
  float4 v;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(from) : "memory");
  return v;
}

/// A thread's part of what all blocks of the cluster have handed this one of kHanded tokens, added in the order of k.
template <int kN>
__device__ __forceinline__ void add_parts(uint32_t at, int cut, int part_bytes, float* sum) {
  using Tile = PromptTile<kN>;
#pragma unroll
  for (int e = 0; e < Tile::kHanded / 2; ++e) sum[e] = 0.f;
#pragma unroll 1
  for (int from = 0; from < cut; ++from, at += part_bytes)
#pragma unroll
    for (int j = 0; j < Tile::kHanded / 8; ++j) {
      const float4 four = load_shared_four(at + j * (256 * 16));
      sum[4 * j] += four.x, sum[4 * j + 1] += four.y, sum[4 * j + 2] += four.z, sum[4 * j + 3] += four.w;
    }
}

/// The same as store_prompt, of the pieces that this block finishes.
template <int kN>
__device__ __forceinline__ void store_parts(const TensorPromptParams& params, int tile, uint32_t ring, PromptStaging<kN>& staging, int thread) {
  using Tile = PromptTile<kN>;
  const PromptLinear& p = params.linear;
  const PromptPlace place = PromptPlace::of<kN>(p, tile);
  const int output0 = place.row0 + kPromptOutputs / 2 * staging.group;
  const float2 bias = bias_of_rows(p, place.linear, output0 + 16 * staging.warp + staging.lane / 4);
  const void* map = &params.y_map[place.linear];
  const PromptShare share = PromptShare::of<kN>(p, place.token0, prompt_rank(p));
  const int part_bytes = (share.end - share.first) * (p.form == 0 ? 2 : 1) * Tile::kHandedBytes;
  uint32_t at = ring + thread * 16;
  if (p.form == 0) {
#pragma unroll 1
    for (int piece = share.first; piece < share.end; ++piece) {
      uint32_t pairs[Tile::kPiece / 4];
#pragma unroll
      for (int half = 0; half < 2; ++half, at += Tile::kHandedBytes) {
        float sum[Tile::kHanded / 2];
        add_parts<kN>(at, p.cut, part_bytes, sum);
#pragma unroll
        for (int i = 0; i < Tile::kHanded / 4; ++i)
          pairs[half * (Tile::kHanded / 4) + i] = half_pair(sum[2 * i] + (i % 2 ? bias.y : bias.x), sum[2 * i + 1] + (i % 2 ? bias.y : bias.x));
      }
      staging.store_f16(map, output0, place.token0 + piece * Tile::kPiece, pairs);
    }
  } else {
#pragma unroll 1
    for (int piece = share.first; piece < share.end; ++piece, at += Tile::kHandedBytes) {
      float sum[Tile::kHanded / 2];
      add_parts<kN>(at, p.cut, part_bytes, sum);
      staging.store_f32(map, output0, place.token0 + piece * Tile::kHanded, sum, bias, p.form == 2);
    }
  }
}

/// A computing warp. Nothing of what the kernel ahead wrote is touched before wait_previous(); weights are nobody's.
template <int kGroup, int kN>
__device__ __forceinline__ void compute_prompt(const TensorPromptParams& params, PromptRing<kN> ring, uint32_t staging_at, int warp, int lane) {
  const PromptLinear& p = params.linear;
  const int pairs = PromptPart::of(p).count(), tiles = prompt_tiles<kN>(p);
  const QuadTurn quad(lane);
  PromptStaging<kN> staging{staging_at + warp / 4 * 2 * PromptTile<kN>::kPieceBytes, warp / 4, warp % 4, lane};
  PromptFeed<kGroup, kN> feed(p, warp, lane);
  PackedChunk<kGroup> packed[2];
  uint32_t a[2][2][2][4];  // of two chunks, halves, products
  feed.next(packed[0]);
  feed.next(packed[1]);
#pragma unroll
  for (int half = 0; half < 2; ++half) unpack_half(packed[0], half, quad, lane, a[0][half]);
  feed.next(packed[0]);
  wait_previous();
  for (int tile = first_tile(p); tile < tiles; tile += gridDim.x) {
    float sum[kN / 2];  // in here: its registers are needed for results too
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) sum[i] = 0.f;
    uint32_t used = 0;
    for (int pair = 0; pair < pairs; ++pair) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        barrier_wait(ring.full(), ring.parity);
        const uint64_t x = wgmma_operand(ring.x());
        PackedChunk<kGroup>& next = packed[c ^ 1];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          wgmma_begin();
#pragma unroll
          for (int kk = 0; kk < 2; ++kk) wgmma_weights<kN>(sum, a[c][half][kk], x + 4 * half + 2 * kk);
          wgmma_commit();
          wgmma_wait<2>();  // this half of the chunk before has been read: the other one and this one go on meanwhile
          if (half == 0) asm volatile("" : "+r"(next.codes.x), "+r"(next.codes.y)::"memory");
          else asm volatile("" : "+r"(next.codes.z), "+r"(next.codes.w)::"memory");
          unpack_half(next, half, quad, lane, a[c ^ 1][half]);
        }
        if (lane == 0 && pair + c > 0) barrier_arrive(used);
        used = ring.empty();
        ring.advance();
        feed.next(next);
      }
    }
    wgmma_wait<0>();
    wgmma_results(sum);
    if (lane == 0) barrier_arrive(used);
    if (p.cut == 1) {
      store_prompt<kN>(params, tile, staging, sum);
      continue;
    }
    const int thread = warp * kWarp + lane;
    hand_parts<kN>(p, tile % ((p.m + kN - 1) / kN) * kN, ring.stages, ring.stages + PromptTile<kN>::kHandedAt, thread, sum);
    store_parts<kN>(params, tile, ring.stages, staging, thread);
    break;
  }
  if (staging.issues()) store_wait_written();
}

template <int kGroup, int kN>
__device__ __forceinline__ void prompt_linear(const TensorPromptParams& p) {
  using Tile = PromptTile<kN>;
  extern __shared__ uint8_t dynamic_shared[];
  const uint32_t base = (shared_address(dynamic_shared) + 1023) & ~1023u;
  PromptRing<kN> ring;
  ring.stages = base;
  ring.barriers = base + Tile::kBarriersAt;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i, ring.slot = i) {
      barrier_init(ring.full(), 1);
      barrier_init(ring.empty(), 8);
    }
    barrier_init_done();
  } else if (threadIdx.x == 128) {  // one of those who meet the cluster's others, whom this barrier is for
    barrier_init(base + Tile::kHandedAt, 1);
    barrier_init_done();
  }
  ring.slot = 0;
  __syncthreads();
  allow_next();
  if (threadIdx.x < 128) {
    give_registers<40>();
    wait_previous();
    if (threadIdx.x == 0) copy_prompt<kN>(p, ring);
  } else {
    take_registers<232>();
    compute_prompt<kGroup, kN>(p, ring, base + Tile::kStagingAt, threadIdx.x / kWarp - 4, threadIdx.x % kWarp);
  }
}

#endif  // EXLLAMA_WGMMA

}  // namespace exllama

// grid: a block per tile of 128 outputs (64 pairs of them where silu) x N tokens, at most as many as the card has
// multiprocessors; block 384, PromptTile<N>::kShared bytes of dynamic shared memory.
#ifdef EXLLAMA_WGMMA
#define EXLLAMA_PROMPT_BODY(GROUP, N) exllama::prompt_linear<GROUP, N>(p)
#define EXLLAMA_PROMPT(GROUP, N)                                                                        \
  extern "C" __global__ void __launch_bounds__(384, 1) linear_prompt_q4_g##GROUP##_t##N(                \
      const __grid_constant__ exllama::TensorPromptParams p) {                                          \
    EXLLAMA_PROMPT_BODY(GROUP, N);                                                                      \
  }
#define EXLLAMA_PROMPT_TOKENS(GROUP) EXLLAMA_PROMPT(GROUP, 256) EXLLAMA_PROMPT(GROUP, 240) EXLLAMA_PROMPT(GROUP, 192) EXLLAMA_PROMPT(GROUP, 160) EXLLAMA_PROMPT(GROUP, 128)
EXLLAMA_PROMPT_TOKENS(32)
EXLLAMA_PROMPT_TOKENS(64)
EXLLAMA_PROMPT_TOKENS(128)

#endif  // EXLLAMA_WGMMA
