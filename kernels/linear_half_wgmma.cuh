// y = x w^T on Hopper's warpgroup products, for linear_half.cu.
//
// Strategy   Block tile 128 tokens x kN outputs, k in steps of 64. One warpgroup only copies, two
//            compute 64 x kN each, fp32 in registers over the whole of k; a ring of stages in
//            shared memory with a pair of barriers each lies between them. Blocks are persistent and
//            take every gridDim.x-th tile, so that copies of the next tile run while the last
//            one's results are written.
//   copies   One thread and the copy engine, from tensor maps that the host makes: parts outside of x
//            and w become zeros. (cp.async by 128 threads reached 500 where this reaches 700 TFLOP/s.)
//   order    Groups of 16 row tiles, rows first: what runs together shares its parts of x and w in L2.
// Bits       Every output is summed over k in steps of 16 in ascending order whatever kN, the grid
//            or the tile: the same bits from all of these kernels.
// Limits     sm_90a; k % 8 == 0, ldx % 8 == 0, 16-byte aligned x and w; any m and n.
#pragma once

#include "wgmma.cuh"

namespace exllama {

constexpr int kWgmmaThreads = 384;
constexpr int kWgmmaM = 128, kWgmmaK = 64;
constexpr int kWgmmaRing = 196608;                       // bytes: 4, 6 or 8 stages
constexpr int kWgmmaOut = 8 * 16 * 128;                  // a [16][64] fp16 piece of y for each computing warp
constexpr int kWgmmaShared = 1024 + kWgmmaRing + kWgmmaOut + 256;  // the ring starts at a multiple of 1024
static_assert(kWgmmaShared == 214272);

#ifdef EXLLAMA_WGMMA

template <int kN>
struct WgmmaRing {
  static constexpr int kXBytes = kWgmmaM * kWgmmaK * 2, kStageBytes = kXBytes + kN * kWgmmaK * 2;
  static constexpr int kStages = kWgmmaRing / kStageBytes;
  static_assert(kStages * kStageBytes <= kWgmmaRing && 2 * kStages * 8 <= 256);

  uint32_t stages, barriers;  // shared addresses
  int slot = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ uint32_t x() const { return stages + slot * kStageBytes; }
  __device__ __forceinline__ uint32_t w() const { return x() + kXBytes; }
  __device__ __forceinline__ uint32_t full() const { return barriers + slot * 8; }
  __device__ __forceinline__ uint32_t empty() const { return barriers + (kStages + slot) * 8; }
  __device__ __forceinline__ void advance() {
    if (++slot == kStages) slot = 0, parity ^= 1;
  }
};

/// Which tile of y the i-th is.
template <int kN, typename Params>
__device__ __forceinline__ int2 wgmma_tile(const Params& p, int tile) {
  constexpr int kGroup = 16;
  const int rows = (p.m + kWgmmaM - 1) / kWgmmaM, columns = (p.n + kN - 1) / kN;
  const int group = tile / (kGroup * columns), inside = tile % (kGroup * columns);
  const int height = min(kGroup, rows - group * kGroup);
  return make_int2((group * kGroup + inside % height) * kWgmmaM, inside / height * kN);
}

template <int kN, typename Params>
__device__ __forceinline__ int wgmma_tiles(const Params& p) {
  return ((p.m + kWgmmaM - 1) / kWgmmaM) * ((p.n + kN - 1) / kN);
}

/// One thread keeps the ring full.
template <int kN, typename Params>
__device__ __forceinline__ void wgmma_copy(const Params& p, const void* x_map, const void* w_map, WgmmaRing<kN> ring) {
  const int steps = (p.k + kWgmmaK - 1) / kWgmmaK, tiles = wgmma_tiles<kN>(p);
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int2 at = wgmma_tile<kN>(p, tile);
    for (int step = 0; step < steps; ++step) {
      barrier_wait(ring.empty(), ring.parity ^ 1);
      barrier_expect(ring.full(), WgmmaRing<kN>::kStageBytes);
      copy_box(ring.x(), x_map, step * kWgmmaK, at.x, ring.full());
      copy_box(ring.w(), w_map, step * kWgmmaK, at.y, ring.full());
      ring.advance();
    }
  }
}

/// Results of one warp: rows m0 .. m0 + 15, columns n0 .. n0 + kN - 1, with bias and residual, as f32.
template <int kN, typename Params>
__device__ __forceinline__ void wgmma_store_f32(const Params& p, const float (&sum)[kN / 2], int m0, int n0, int lane) {
  const int g = lane / 4, t = lane % 4;
  const bool pairs = p.ldy % 2 == 0;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int m = m0 + g + 8 * h;
    if (m >= p.m) continue;
#pragma unroll
    for (int j = 0; j < kN / 8; ++j) {
      const int n = n0 + 8 * j + 2 * t;
      float2 y = make_float2(sum[4 * j + 2 * h], sum[4 * j + 2 * h + 1]);
      const size_t at = size_t(m) * p.ldy + n;
      float* to = static_cast<float*>(p.y) + at;
      if (p.bias != nullptr) {
        if (n < p.n) y.x += __half2float(__ldg(p.bias + n));
        if (n + 1 < p.n) y.y += __half2float(__ldg(p.bias + n + 1));
      }
      if (pairs && n + 1 < p.n) {
        if (p.residual != nullptr) {
          const float2 r = *reinterpret_cast<const float2*>(p.residual + at);
          y.x += r.x, y.y += r.y;
        }
        *reinterpret_cast<float2*>(to) = y;
      } else {
        if (n < p.n) to[0] = p.residual != nullptr ? y.x + p.residual[at] : y.x;
        if (n + 1 < p.n) to[1] = p.residual != nullptr ? y.y + p.residual[at + 1] : y.y;
      }
    }
  }
}

/// The same as f16, 64 columns at a time through shared memory, so that rows are written in 128 bytes.
template <int kN, typename Params>
__device__ __forceinline__ void wgmma_store_f16(const Params& p, const float (&sum)[kN / 2], uint8_t* piece, int m0, int n0, int lane) {
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int block = 0; block < kN / 64; ++block) {
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      uint32_t cells[4];  // rows 0-7 and 8-15 of 8 columns, then of the next 8
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int j = block * 8 + pair * 2 + i / 2, h = i % 2, n = n0 + 8 * j + 2 * t, m = m0 + g + 8 * h;
        float2 y = make_float2(sum[4 * j + 2 * h], sum[4 * j + 2 * h + 1]);
        if (p.bias != nullptr) {
          if (n < p.n) y.x += __half2float(__ldg(p.bias + n));
          if (n + 1 < p.n) y.y += __half2float(__ldg(p.bias + n + 1));
        }
        if (p.residual != nullptr && m < p.m) {
          if (n < p.n) y.x += p.residual[size_t(m) * p.ldy + n];
          if (n + 1 < p.n) y.y += p.residual[size_t(m) * p.ldy + n + 1];
        }
        const __half2 rounded = __floats2half2_rn(y.x, y.y);
        cells[i] = *reinterpret_cast<const uint32_t*>(&rounded);
      }
      const int row = lane % 16;
      store_matrix_x4(piece + row * 128 + (((pair * 2 + lane / 16) ^ (row & 7)) << 4), cells);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 8 + 4 * i, cell = lane % 8, m = m0 + row, n = n0 + block * 64 + cell * 8;
      const uint4 eight = *reinterpret_cast<const uint4*>(piece + row * 128 + ((cell ^ (row & 7)) << 4));
      if (m >= p.m || n >= p.n) continue;
      __half* to = static_cast<__half*>(p.y) + size_t(m) * p.ldy + n;
      if (n + 8 <= p.n && reinterpret_cast<uintptr_t>(to) % 16 == 0) {
        *reinterpret_cast<uint4*>(to) = eight;
      } else {
        const uint32_t words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
        for (int e = 0; e < 8; ++e)
          if (n + e < p.n) to[e] = __ushort_as_half(static_cast<unsigned short>(words[e / 2] >> (16 * (e % 2))));
      }
    }
    __syncwarp();
  }
}

template <int kN, typename Params>
__device__ __forceinline__ void wgmma_compute(const Params& p, WgmmaRing<kN> ring, uint8_t* pieces, int thread) {
  const int group = thread / 128, warp = thread / kWarp, lane = thread % kWarp;
  const int steps = (p.k + kWgmmaK - 1) / kWgmmaK, tiles = wgmma_tiles<kN>(p);
  float sum[kN / 2];
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) sum[i] = 0.f;  // the first product of a tile overwrites it
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    uint32_t used = 0;
    for (int step = 0; step < steps; ++step) {
      barrier_wait(ring.full(), ring.parity);
      const uint64_t a = wgmma_operand(ring.x() + group * 64 * 128), b = wgmma_operand(ring.w());
      wgmma_begin();
#pragma unroll
      for (int kk = 0; kk < kWgmmaK / 16; ++kk) wgmma_k16<kN>(sum, a + 2 * kk, b + 2 * kk, step + kk > 0);
      wgmma_commit();
      if (step > 0) {  // the step before has been read by now
        wgmma_wait<1>();
        if (lane == 0) barrier_arrive(used);
      }
      used = ring.empty();
      ring.advance();
    }
    wgmma_wait<0>();
    wgmma_results(sum);
    if (lane == 0) barrier_arrive(used);

    const int2 at = wgmma_tile<kN>(p, tile);
    const int m0 = at.x + warp * 16;
    if (p.y_is_f32) wgmma_store_f32<kN>(p, sum, m0, at.y, lane);
    else wgmma_store_f16<kN>(p, sum, pieces + warp * 2048, m0, at.y, lane);
  }
}

/// The whole kernel.
template <int kN, typename Params>
__device__ __forceinline__ void wgmma_gemm(const Params& p, const void* x_map, const void* w_map) {
  extern __shared__ uint8_t dynamic_shared[];
  const uint32_t base = shared_address(dynamic_shared), ring_at = (base + 1023) & ~1023u;
  uint8_t* pieces = dynamic_shared + (ring_at - base) + kWgmmaRing;
  WgmmaRing<kN> ring;
  ring.stages = ring_at;
  ring.barriers = ring_at + kWgmmaRing + kWgmmaOut;
  if (threadIdx.x == 0) {
    for (int i = 0; i < WgmmaRing<kN>::kStages; ++i, ring.slot = i) {
      barrier_init(ring.full(), 1);
      barrier_init(ring.empty(), 8);
    }
    barrier_init_done();
  }
  ring.slot = 0;
  __syncthreads();
  allow_next();
  wait_previous();
  if (threadIdx.x < 128) {
    give_registers<40>();
    if (threadIdx.x == 0) wgmma_copy<kN>(p, x_map, w_map, ring);
  } else {
    take_registers<232>();
    wgmma_compute<kN>(p, ring, pieces, threadIdx.x - 128);
  }
}

#endif  // EXLLAMA_WGMMA

}  // namespace exllama
