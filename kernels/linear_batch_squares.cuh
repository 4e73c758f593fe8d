// What blocks of linear_batch_wgmma.cu that read x of a norm put off (deferred_norm.cuh) make of its squares: what their sums are
// multiplied by.
#pragma once

#include "linear_batch_wgmma.cuh"

#ifdef EXLLAMA_WGMMA

namespace exllama {

static_assert(kSquaredOutputs == kTileRows);

/// A warp's part of the squares of x, over row tiles in ascending order, then over lanes: to shared memory.
template <int kGroup, int kN>
__device__ __forceinline__ void add_squares(const TensorBatchParams& params, uint32_t base) {
  using Tile = BatchTile<kGroup, kN>;
  constexpr int kQuads = kN / 4, kStep = kBatchWarps * kWarp / kQuads, kAtOnce = 4;  // four tokens to a thread
  const int thread = threadIdx.x, tiles = params.linear.k / kSquaredOutputs;
  const float4* from = reinterpret_cast<const float4*>(params.norm.squares) + thread;
  float sum[4] = {};
#pragma unroll 1
  for (int tile = thread / kQuads; tile < tiles; tile += kAtOnce * kStep, from += kAtOnce * kBatchWarps * kWarp) {
    float4 v[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) v[i] = tile + i * kStep < tiles ? __ldcg(from + i * kBatchWarps * kWarp) : make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) sum[0] += v[i].x, sum[1] += v[i].y, sum[2] += v[i].z, sum[3] += v[i].w;
  }
#pragma unroll
  for (int step = kQuads; step < kWarp; step *= 2)
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], step);
  const int warp = thread / kWarp, lane = thread % kWarp;
  if (lane < kQuads)
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(base + Tile::kSquaresAt + (warp * kN + 4 * lane) * 4), "f"(sum[0]), "f"(sum[1]), "f"(sum[2]),
                 "f"(sum[3])
                 : "memory");
  if (thread < kN) {
    const float carried = __ldcg(params.norm.carried + thread);
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(base + Tile::kCarriedAt + thread * 4), "f"(carried) : "memory");
  }
  __syncwarp();
  if (lane == 0) barrier_arrive(base + Tile::kSquaresBarrierAt);
}

__device__ __forceinline__ float load_shared_float(uint32_t from) {
  float v;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(from) : "memory");
  return v;
}

/// What the sums of token `lane` (of kN) are to be multiplied by, when all warps have added up their squares.
/// @param leaves whether this warp leaves the factors for x of the next norm
template <int kGroup, int kN>
__device__ __forceinline__ float token_factor(const BatchLinear& p, const DeferredNorm& norm, uint32_t base, int lane, bool leaves) {
  using Tile = BatchTile<kGroup, kN>;
  const int token = lane % kN;
  barrier_wait(base + Tile::kSquaresBarrierAt, 0);
  float squares = 0.f;
#pragma unroll
  for (int w = 0; w < kBatchWarps; ++w) squares += load_shared_float(base + Tile::kSquaresAt + (w * kN + token) * 4);
  const float factor = rsqrtf(squares / static_cast<float>(p.k) + norm.eps);
  if (leaves && lane < kN) norm.factors[token] = factor;
  return __fdividef(factor, load_shared_float(base + Tile::kCarriedAt + token * 4)) * (1.f / kDeferredRoom);
}

}  // namespace exllama

#endif  // EXLLAMA_WGMMA
