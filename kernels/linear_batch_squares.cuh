// What blocks of linear_batch_wgmma.cu that read x of a norm put off (deferred_norm.cuh) make of its squares: what their sums are
// multiplied by.
#pragma once

#include "linear_batch_wgmma.cuh"

#ifdef EXLLAMA_WGMMA

namespace exllama {

static_assert(kSquaredOutputs == kTileRows);

/// A thread's part of the squares of x, and of what x carries. Four tokens to a thread: neighbouring threads read neighbouring memory.
template <int kGroup, int kN>
struct BatchSquares {
  using Tile = BatchTile<kGroup, kN>;
  static constexpr int kThreads = kBatchWarps * kWarp, kQuads = kN / 4, kStep = kThreads / kQuads, kAtOnce = 4;
  float4 v[kAtOnce];
  float carried;

  /// From L2, for multiprocessors may have what lay there before. On their way, when this returns.
  __device__ __forceinline__ void ask(const TensorBatchParams& params, int first = 0) {
    const int tile = first + threadIdx.x / kQuads, tiles = params.linear.k / kSquaredOutputs;
    const float4* from = reinterpret_cast<const float4*>(params.norm.squares) + first * kQuads + threadIdx.x;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) v[i] = tile + i * kStep < tiles ? __ldcg(from + i * kThreads) : make_float4(0.f, 0.f, 0.f, 0.f);
    if (first == 0) carried = threadIdx.x < kN ? __ldcg(params.norm.carried + threadIdx.x) : 0.f;
  }

  /// Sums over row tiles in ascending order, then over lanes: a warp's to shared memory.
  __device__ __forceinline__ void add(const TensorBatchParams& params, uint32_t base) {
    float sum[4] = {};
#pragma unroll 1
    for (int first = 0;;) {
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) sum[0] += v[i].x, sum[1] += v[i].y, sum[2] += v[i].z, sum[3] += v[i].w;
      first += kAtOnce * kStep;
      if (first >= params.linear.k / kSquaredOutputs) break;
      ask(params, first);
    }
#pragma unroll
    for (int step = kQuads; step < kWarp; step *= 2)
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], step);
    const int thread = threadIdx.x, warp = thread / kWarp, lane = thread % kWarp;
    if (lane < kQuads)
      store_shared(base + Tile::kSquaresAt + (warp * kN + 4 * lane) * 4, __float_as_uint(sum[0]), __float_as_uint(sum[1]), __float_as_uint(sum[2]),
                   __float_as_uint(sum[3]));
    if (thread < kN) asm volatile("st.shared.f32 [%0], %1;" ::"r"(base + Tile::kCarriedAt + thread * 4), "f"(carried) : "memory");
    __syncwarp();
    if (lane == 0) barrier_arrive(base + Tile::kSquaresBarrierAt);
  }
};

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
