// How x comes into a block's shared memory, with the sums of its groups and, where it is the residual stream, normalised.
#pragma once

#include "linear_stream.cuh"

namespace exllama {

template <int kThreads>
__device__ __forceinline__ void meet() {
  asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory");
}

/// 1 / sqrt(mean(x^2) + eps) of every token into shared.row_scale; all `kThreads` take part, and meet.
template <int kThreads, typename Shared>
__device__ __forceinline__ void measure_rows(const StreamParams& p, const Shared& shared) {
  constexpr int kWarps = kThreads / kWarp, kBatch = 4;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, cells = p.k_valid / 4;
  float* squares_of = shared.partial;  // [warps][m], nobody's yet
  for (int token = 0; token < p.m; ++token) {
    const float4* row = reinterpret_cast<const float4*>(static_cast<const float*>(p.x) + size_t(token) * p.ldx);
    float squares = 0.f;
    for (int base = threadIdx.x; base < cells; base += kThreads * kBatch) {
      float4 v[kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) v[b] = base + b * kThreads < cells ? row[base + b * kThreads] : make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
      for (int b = 0; b < kBatch; ++b) squares += v[b].x * v[b].x + v[b].y * v[b].y + v[b].z * v[b].z + v[b].w * v[b].w;
    }
    squares = warp_sum(squares);
    if (lane == 0) squares_of[warp * p.m + token] = squares;
  }
  meet<kThreads>();
  if (threadIdx.x < p.m) {
    float sum = 0.f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += squares_of[w * p.m + threadIdx.x];
    shared.row_scale[threadIdx.x] = rsqrtf(sum / static_cast<float>(p.k_valid) + p.eps);
  }
  meet<kThreads>();
}

__device__ __forceinline__ uint32_t as_word(float a, float b) {
  const __half2 pair = __floats2half2_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

/// Eight k of x, zeros beyond the end.
template <bool kNorm>
__device__ __forceinline__ uint4 stream_x(const StreamParams& p, int token, int k, float scale) {
  if (k >= p.k_valid) return make_uint4(0, 0, 0, 0);
  if constexpr (kNorm) {
    const float* row = static_cast<const float*>(p.x) + size_t(token) * p.ldx;
    if (p.permutation == nullptr) {
      const float4 a = *reinterpret_cast<const float4*>(row + k), b = *reinterpret_cast<const float4*>(row + k + 4);
      const uint4 weights = __ldg(reinterpret_cast<const uint4*>(p.norm + k));
      const __half2* w = reinterpret_cast<const __half2*>(&weights);
      const float2 w0 = __half22float2(w[0]), w1 = __half22float2(w[1]), w2 = __half22float2(w[2]), w3 = __half22float2(w[3]);
      return make_uint4(as_word(a.x * scale * w0.x, a.y * scale * w0.y), as_word(a.z * scale * w1.x, a.w * scale * w1.y),
                        as_word(b.x * scale * w2.x, b.y * scale * w2.y), as_word(b.z * scale * w3.x, b.w * scale * w3.y));
    }
    __half h[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int from = k + i < p.k_valid ? __ldg(p.permutation + k + i) : -1;
      h[i] = from < 0 ? __half(0.f) : __float2half_rn(row[from] * scale * __half2float(__ldg(p.norm + from)));
    }
    return *reinterpret_cast<uint4*>(h);
  } else {
    const __half* row = static_cast<const __half*>(p.x) + size_t(token) * p.ldx;
    if (p.permutation == nullptr) return *reinterpret_cast<const uint4*>(row + k);
    __half h[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) h[i] = k + i < p.k_valid ? row[__ldg(p.permutation + k + i)] : __half(0.f);
    return *reinterpret_cast<uint4*>(h);
  }
}

/// One cell of 8 k in its place in shared memory, and with its neighbours the sum of their group. All lanes take part.
template <int kGroup, typename Shared>
__device__ __forceinline__ void place_cell(const Shared& shared, uint4 v, int token, int cell, bool there) {
  constexpr int kGroupCells = kGroup / 8;
  if (there) *reinterpret_cast<uint4*>(shared.x + token * shared.x_pitch + cell * 16) = v;
  const __half2* h = reinterpret_cast<const __half2*>(&v);
  float sum = 0.f;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const float2 f = __half22float2(h[e]);
    sum += f.x + f.y;
  }
#pragma unroll
  for (int step = kGroupCells / 2; step > 0; step >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (there && cell % kGroupCells == 0) shared.x_sum[cell / kGroupCells * Shared::kSumPitch + token] = sum;
}

/// x[:, k0 .. k0 + width) into shared memory, with the sums of its groups. All `kThreads` take part.
template <int kGroup, int kThreads, bool kNorm, typename Shared>
__device__ __forceinline__ void stage_x(const StreamParams& p, const Shared& shared, int k0) {
  constexpr int kBatch = kNorm ? 2 : 4;
  const int cells = shared.width / 8, all = cells * p.m;  // cells % 16 == 0: no group straddles half warps
  const float rows_per_cell = 1.f / static_cast<float>(cells);
  const auto row_of = [=](int i) { return static_cast<int>((static_cast<float>(i) + 0.5f) * rows_per_cell); };
  for (int base = 0; base < all; base += kThreads * kBatch) {
    uint4 v[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int i = base + b * kThreads + threadIdx.x, token = row_of(i);
      v[b] = i < all ? stream_x<kNorm>(p, token, k0 + (i - token * cells) * 8, kNorm ? shared.row_scale[token] : 1.f) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int i = base + b * kThreads + threadIdx.x, token = row_of(i);
      place_cell<kGroup>(shared, v[b], token, i - token * cells, i < all);
    }
  }
}

/// Whether stage_row() takes the place of measure_rows() and stage_x().
template <int kThreads>
__device__ __forceinline__ bool is_one_row(const StreamParams& p) {
  return p.norm != nullptr && p.m == 1 && p.permutation == nullptr && p.k <= kCellsOfRow * kThreads * 8 && p.slab >= p.k;
}

/// One token's row of the residual stream, normalised while every thread holds its part of it: read once.
template <int kGroup, int kThreads, typename Shared>
__device__ __forceinline__ void stage_row(const StreamParams& p, const Shared& shared) {
  constexpr int kWarps = kThreads / kWarp, kMost = kCellsOfRow;
  const auto cell = [](int b) { return b * kThreads + static_cast<int>(threadIdx.x); };
  const float4* row = static_cast<const float4*>(p.x);
  float4 v[kMost][2];
  uint4 weights[kMost];
  float squares = 0.f;
#pragma unroll
  for (int b = 0; b < kMost; ++b)
#pragma unroll
    for (int h = 0; h < 2; ++h) v[b][h] = cell(b) * 8 < p.k_valid ? row[2 * cell(b) + h] : make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
  for (int b = 0; b < kMost; ++b)
    weights[b] = cell(b) * 8 < p.k_valid ? __ldg(reinterpret_cast<const uint4*>(p.norm) + cell(b)) : make_uint4(0, 0, 0, 0);
#pragma unroll
  for (int b = 0; b < kMost; ++b)
#pragma unroll
    for (int h = 0; h < 2; ++h) squares += v[b][h].x * v[b][h].x + v[b][h].y * v[b][h].y + v[b][h].z * v[b][h].z + v[b][h].w * v[b][h].w;
  squares = warp_sum(squares);
  if (threadIdx.x % kWarp == 0) shared.partial[threadIdx.x / kWarp] = squares;
  meet<kThreads>();
  float sum = 0.f;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) sum += shared.partial[w];
  const float scale = rsqrtf(sum / static_cast<float>(p.k_valid) + p.eps);
  const int cells = shared.width / 8;
#pragma unroll
  for (int b = 0; b < kMost; ++b) {
    if (b * kThreads >= cells) break;
    const __half2* w = reinterpret_cast<const __half2*>(&weights[b]);
    uint32_t words[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float2 factor = __half22float2(w[e]);
      const float4& four = v[b][e / 2];
      words[e] = e % 2 ? as_word(four.z * scale * factor.x, four.w * scale * factor.y) : as_word(four.x * scale * factor.x, four.y * scale * factor.y);
    }
    place_cell<kGroup>(shared, make_uint4(words[0], words[1], words[2], words[3]), 0, cell(b), cell(b) < cells);
  }
}

}  // namespace exllama
