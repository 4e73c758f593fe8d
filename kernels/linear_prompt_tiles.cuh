// What a launch of linear_prompt.cu is told, and how its work is dealt out: tiles, parts of k, shares of results.
#pragma once

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

#endif  // EXLLAMA_WGMMA

}  // namespace exllama
