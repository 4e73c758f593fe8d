// The order of codes: where the inputs of a linear lie in rows of x, so that products of warpgroups meet them in the order in
// which lanes hold the codes (quantized.cuh), and lanes need not exchange what they hold. Norms, attention and silu write
// such rows for linear_batch_wgmma.cu where nobody else reads them.
#pragma once

#include "common.cuh"

namespace exllama {

/// The place of input k: its own 32 k, there by bits. Even k and the next one stay neighbours.
__device__ __forceinline__ int code_order(int k) { return (k & ~31) | (k & 4) << 2 | (k & 2) << 2 | (k & 24) >> 2 | (k & 1); }

/// Four neighbouring inputs, the first a multiple of 4, to a row of x: in the order of codes, or as they are.
__device__ __forceinline__ void store_inputs(__half* row, int k, uint2 four, bool ordered) {
  if (ordered) {
    uint32_t* to = reinterpret_cast<uint32_t*>(row + code_order(k));
    to[0] = four.x, to[4] = four.y;
  } else {
    *reinterpret_cast<uint2*>(row + k) = four;
  }
}

}  // namespace exllama
