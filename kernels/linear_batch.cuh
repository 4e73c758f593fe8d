// What linear_batch.cu shares between its kernels, and with the host (src/backend/cuda/linears/batch-launch.ts): how a launch's
// work is cut into pieces, and where the pieces' sums lie.
#pragma once

#include "quantized.cuh"

namespace exllama {

// A unit is a block of 128 outputs; its k is cut into slices, and all slices of all units, unit after unit, are dealt out to
// the blocks in equal runs. A piece is what one block computes of one unit.

struct BatchParams {
  const uint8_t *weights0, *weights1, *weights2;  // row tiles of the segments
  const __half* x;                                // [m, ldx]
  float* pieces;                                  // [block + unit][tokens][128]
  int32_t n0, n1, n2;                             // outputs of the segments; 0: no such segment
  int32_t m;                                      // tokens
  int32_t paired;                                 // 1: a unit takes 64 outputs of each of two segments (gate, up), n0 == n1, n2 == 0
  int32_t slices;                                 // of a unit
  int32_t units;
  int32_t k;                                      // padded to 64
  int32_t k_valid, ldx;                           // columns that x really has
  int32_t stages;                                 // of the ring
  int32_t unused;
};
static_assert(sizeof(BatchParams) == 88);

/// What becomes of the pieces; those that a kernel does not use are null.
struct BatchSumParams {
  const float* pieces;
  const __half *bias0, *bias1, *bias2;  // [n] or null
  __half *y0, *y1, *y2;                 // [m, n]
  float* residual;                      // [m, n0]: the sum is added to it
  const __half* norm;                   // [n0] weights of the RMSNorm of what is the residual then, into y0; or null
  int32_t n0, n1, n2;
  int32_t m;
  int32_t paired;
  int32_t slices;
  int32_t units;
  int32_t blocks;                       // of the launch that made the pieces
  int32_t piece_tokens;                 // that a piece has room for
  float eps;
};
static_assert(sizeof(BatchSumParams) == 112);

constexpr int kUnitOutputs = 128;
constexpr int kHalfOutputs = 64;  // of a unit: what lies in one segment
constexpr int kHalfTiles = kHalfOutputs / kTileRows;

__device__ __forceinline__ int halves_of(int n) { return (n + kHalfOutputs - 1) / kHalfOutputs; }

/// Half `half` (0, 1) of a unit's outputs: its segment and first output there. Beyond the last it repeats the last.
struct BatchHalf {
  int segment, first, outputs;
  bool there;
  template <typename Params>
  __device__ __forceinline__ BatchHalf(const Params& p, int unit, int half) {
    if (p.paired) {
      segment = half, first = unit * kHalfOutputs, there = true;
    } else {
      const int halves0 = halves_of(p.n0), halves1 = halves_of(p.n1);
      int index = unit * 2 + half;
      there = index < halves0 + halves1 + halves_of(p.n2);
      if (!there) --index;  // only the last unit's second half can be missing
      segment = index < halves0 ? 0 : index < halves0 + halves1 ? 1 : 2;
      first = (index - (segment == 0 ? 0 : segment == 1 ? halves0 : halves0 + halves1)) * kHalfOutputs;
    }
    outputs = segment == 0 ? p.n0 : segment == 1 ? p.n1 : p.n2;
  }
};

/// First slice of a block. Slices times blocks stay below 2^32: batchLaunch() sees to it.
template <typename Params>
__device__ __forceinline__ int first_slice(const Params& p, int block, int blocks) {
  return static_cast<int>(uint32_t(p.units * p.slices) * uint32_t(block) / uint32_t(blocks));
}

/// The block that computes a slice: the last one whose first slice is not beyond it.
template <typename Params>
__device__ __forceinline__ int block_of_slice(const Params& p, int slice, int blocks) {
  return static_cast<int>((uint32_t(slice + 1) * uint32_t(blocks) - 1) / uint32_t(p.units * p.slices));
}

}  // namespace exllama
