// Low-rank adapters beside the linears: t[m, r] = w[m, r] * sum_k x[m, k] a[r, k], then
// y[m, n] += sum_r b[r, n] t[m, r], for up to three linears that read the same x in one launch.
//
// Strategy   Ranks are padded to octets, each of one adapter. Which adapters a row uses, and how
//            much, is a table [sequences, adapters] of weights, 0 where one is not used: octets that
//            none of a block's rows use are neither read nor added, so a step costs what its rows
//            ask for while its launches depend on its shape only. lora_shrink_row divides k among
//            the warps of a block (few rows), lora_shrink_rows gives each warp four rows. Every sum
//            has one fixed order; no atomics.
// Layout     a: f16 [ranks, k]; b: f16 [ranks, n] (as it is read); t: f32 [m, all ranks of the launch].
// Limits     ranks % 8 == 0, k % 8 == 0, n % 2 == 0.
#include "common.cuh"

namespace exllama {

constexpr int kOctet = 8;
constexpr int kLoraThreads = 256;
constexpr int kLoraWarps = kLoraThreads / kWarp;
/// Rows of a warp of lora_shrink_rows.
constexpr int kWarpRows = 4;
/// Rows of a block of lora_expand.
constexpr int kExpandRows = 8;

struct LoraShrinkParams {
  const __half* x;          // [m, k]
  const __half* a0;         // [ranks0, k]
  const __half* a1;
  const __half* a2;
  const int32_t* owner0;    // [ranks0 / 8] the adapter of each octet
  const int32_t* owner1;
  const int32_t* owner2;
  const float* weights;     // [sequences, adapters]
  const int32_t* sequence;  // [m] row of the weights
  float* t;                 // [m, ranks0 + ranks1 + ranks2]
  int32_t ranks0, ranks1, ranks2;
  int32_t m, k, adapters;
};
static_assert(sizeof(LoraShrinkParams) == 104);

struct LoraExpandParams {
  const float* t;           // [m, ranks0 + ranks1 + ranks2]
  const __half* b0;         // [ranks0, n0]
  const __half* b1;
  const __half* b2;
  void* y0;                 // [m, n0] f16 or f32
  void* y1;
  void* y2;
  int32_t ranks0, ranks1, ranks2;
  int32_t n0, n1, n2;
  int32_t m, y_is_f32;
};
static_assert(sizeof(LoraExpandParams) == 88);

/// Eight neighbours of an f16 vector.
struct Eight {
  float v[kOctet];
};

__device__ __forceinline__ Eight widen(const uint4 bits) {
  Eight e;
  const __half2* pairs = reinterpret_cast<const __half2*>(&bits);
#pragma unroll
  for (int i = 0; i < kOctet / 2; ++i) {
    const float2 pair = __half22float2(pairs[i]);
    e.v[2 * i] = pair.x;
    e.v[2 * i + 1] = pair.y;
  }
  return e;
}

__device__ __forceinline__ Eight load_eight(const __half* from) { return widen(*reinterpret_cast<const uint4*>(from)); }

__device__ __forceinline__ float dot(const Eight& a, const Eight& b, float sum) {
#pragma unroll
  for (int i = 0; i < kOctet; ++i) sum = fmaf(a.v[i], b.v[i], sum);
  return sum;
}

/// The octet that a block computes: its rows of a, and the adapter that they belong to.
struct Octet {
  const __half* a;
  int adapter;
};

__device__ __forceinline__ Octet find_octet(const LoraShrinkParams& p, int rank) {
  const int64_t k = p.k;
  if (rank < p.ranks0) return {p.a0 + rank * k, p.owner0[rank / kOctet]};
  rank -= p.ranks0;
  if (rank < p.ranks1) return {p.a1 + rank * k, p.owner1[rank / kOctet]};
  rank -= p.ranks1;
  return {p.a2 + rank * k, p.owner2[rank / kOctet]};
}

}  // namespace exllama

/// grid (octets, m), block 256.
extern "C" __global__ void __launch_bounds__(256, 2) lora_shrink_row(const __grid_constant__ exllama::LoraShrinkParams p) {
  using namespace exllama;
  __shared__ float partial[kLoraWarps][kOctet];
  allow_next();
  wait_previous();
  const int row = blockIdx.y, first = blockIdx.x * kOctet;
  const Octet octet = find_octet(p, first);
  const float weight = p.weights[size_t(p.sequence[row]) * p.adapters + octet.adapter];
  float* t = p.t + size_t(row) * (p.ranks0 + p.ranks1 + p.ranks2) + first;
  if (weight == 0.f) {
    if (threadIdx.x < kOctet) t[threadIdx.x] = 0.f;
    return;
  }
  float sum[kOctet] = {};
  for (int i = threadIdx.x * kOctet; i < p.k; i += kLoraThreads * kOctet) {
    const Eight x = load_eight(p.x + size_t(row) * p.k + i);
#pragma unroll
    for (int r = 0; r < kOctet; ++r) sum[r] = dot(load_eight(octet.a + size_t(r) * p.k + i), x, sum[r]);
  }
#pragma unroll
  for (int r = 0; r < kOctet; ++r) {
    const float all = warp_sum(sum[r]);
    if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp][r] = all;
  }
  __syncthreads();
  if (threadIdx.x >= kOctet) return;
  float all = 0.f;
#pragma unroll
  for (int w = 0; w < kLoraWarps; ++w) all += partial[w][threadIdx.x];
  t[threadIdx.x] = weight * all;
}

/// grid (octets, ceil(m / 32)), block 256.
extern "C" __global__ void __launch_bounds__(256) lora_shrink_rows(const __grid_constant__ exllama::LoraShrinkParams p) {
  using namespace exllama;
  allow_next();
  wait_previous();
  const int lane = threadIdx.x % kWarp, first = blockIdx.x * kOctet;
  const int begin = (blockIdx.y * kLoraWarps + threadIdx.x / kWarp) * kWarpRows;
  if (begin >= p.m) return;
  const Octet octet = find_octet(p, first);
  const int width = p.ranks0 + p.ranks1 + p.ranks2;
  float weight[kWarpRows];
  bool used = false;
#pragma unroll
  for (int j = 0; j < kWarpRows; ++j) {
    const bool there = begin + j < p.m;
    weight[j] = there ? p.weights[size_t(p.sequence[begin + j]) * p.adapters + octet.adapter] : 0.f;
    used = used || weight[j] != 0.f;
  }
  float sum[kWarpRows][kOctet] = {};
  for (int i = lane * kOctet; used && i < p.k; i += kWarp * kOctet) {
    Eight x[kWarpRows];
#pragma unroll
    for (int j = 0; j < kWarpRows; ++j) x[j] = load_eight(p.x + size_t(min(begin + j, p.m - 1)) * p.k + i);
#pragma unroll
    for (int r = 0; r < kOctet; ++r) {
      const Eight a = load_eight(octet.a + size_t(r) * p.k + i);
#pragma unroll
      for (int j = 0; j < kWarpRows; ++j) sum[j][r] = dot(a, x[j], sum[j][r]);
    }
  }
  // Lane 8j + r keeps row j, rank r.
  float mine = 0.f;
#pragma unroll
  for (int j = 0; j < kWarpRows; ++j)
#pragma unroll
    for (int r = 0; r < kOctet; ++r) {
      const float all = warp_sum(sum[j][r]);
      if (lane == j * kOctet + r) mine = weight[j] == 0.f ? 0.f : weight[j] * all;
    }
  const int row = begin + lane / kOctet;
  if (row < p.m) p.t[size_t(row) * width + first + lane % kOctet] = mine;
}

/// grid (sum of ceil(n / 512), ceil(m / 8)), block 256; each thread two columns of eight rows.
extern "C" __global__ void __launch_bounds__(256) lora_expand(const __grid_constant__ exllama::LoraExpandParams p) {
  using namespace exllama;
  __shared__ float t[kExpandRows * kOctet];
  allow_next();
  wait_previous();
  constexpr int kColumns = 2 * kLoraThreads;
  int block = blockIdx.x, n = p.n0, ranks = p.ranks0, offset = 0;
  const __half* b = p.b0;
  void* y = p.y0;
  if (block >= (n + kColumns - 1) / kColumns) {
    block -= (n + kColumns - 1) / kColumns;
    offset += ranks;
    n = p.n1;
    ranks = p.ranks1;
    b = p.b1;
    y = p.y1;
    if (block >= (n + kColumns - 1) / kColumns) {
      block -= (n + kColumns - 1) / kColumns;
      offset += ranks;
      n = p.n2;
      ranks = p.ranks2;
      b = p.b2;
      y = p.y2;
    }
  }
  const int column = block * kColumns + 2 * threadIdx.x, begin = blockIdx.y * kExpandRows;
  const int width = p.ranks0 + p.ranks1 + p.ranks2;
  float2 sum[kExpandRows] = {};
  bool added = false;
  for (int first = 0; first < ranks; first += kOctet) {
    float value = 0.f;
    const int row = begin + threadIdx.x / kOctet;
    if (threadIdx.x < kExpandRows * kOctet && row < p.m) value = p.t[size_t(row) * width + offset + first + threadIdx.x % kOctet];
    if (!__syncthreads_or(value != 0.f)) continue;
    if (threadIdx.x < kExpandRows * kOctet) t[threadIdx.x] = value;
    __syncthreads();
    added = true;
    if (column >= n) continue;
#pragma unroll
    for (int r = 0; r < kOctet; ++r) {
      const float2 w = __half22float2(*reinterpret_cast<const __half2*>(b + size_t(first + r) * n + column));
#pragma unroll
      for (int j = 0; j < kExpandRows; ++j) {
        sum[j].x = fmaf(w.x, t[j * kOctet + r], sum[j].x);
        sum[j].y = fmaf(w.y, t[j * kOctet + r], sum[j].y);
      }
    }
  }
  if (!added || column >= n) return;
#pragma unroll
  for (int j = 0; j < kExpandRows; ++j) {
    if (begin + j >= p.m) break;
    const size_t at = size_t(begin + j) * n + column;
    if (p.y_is_f32) {
      float2* to = reinterpret_cast<float2*>(static_cast<float*>(y) + at);
      const float2 old = *to;
      *to = make_float2(old.x + sum[j].x, old.y + sum[j].y);
    } else {
      __half2* to = reinterpret_cast<__half2*>(static_cast<__half*>(y) + at);
      const float2 old = __half22float2(*to);
      *to = __floats2half2_rn(old.x + sum[j].x, old.y + sum[j].y);
    }
  }
}
