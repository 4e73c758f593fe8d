// How choose_token() orders and weighs logits, and what a block does together: sums, bins, a sorted list.
#pragma once

#include "sample_slots.cuh"

namespace exllama {

constexpr int kThreads = 512, kWarps = kThreads / kWarp, kInFlight = 16, kSlicesInFlight = 8;
constexpr int kBins = 2 * kThreads, kBinBits = 10;
static_assert(kBins == 1 << kBinBits);
constexpr float kBinsPerLogit = 32.f;
constexpr int kSorted = kThreads;
constexpr int kWeightBits = 44;
constexpr uint32_t kEveryLane = 0xffffffffu;

using u64 = unsigned long long;

struct Best {
  float logit;
  int id;
};

__device__ __forceinline__ Best better(Best a, Best b) {
  return b.logit > a.logit || (b.logit == a.logit && b.id < a.id) ? b : a;
}

__device__ __forceinline__ Best warp_best(Best best) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1)
    best = better(best, {__shfl_xor_sync(kEveryLane, best.logit, step), __shfl_xor_sync(kEveryLane, best.id, step)});
  return best;
}

__device__ __forceinline__ int warp_min(int v) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) v = min(v, __shfl_xor_sync(kEveryLane, v, step));
  return v;
}

/// Larger for larger logits; both zeros are equal.
__device__ __forceinline__ uint32_t key_of(float logit) {
  const uint32_t bits = __float_as_uint(logit);
  if (bits == 0x80000000u) return 0x80000000u;
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float logit_of(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

/// Larger is better: by logit, then the lower id.
__device__ __forceinline__ u64 rank_of(float logit, int id) {
  return u64(key_of(logit)) << 32 | uint32_t(~id);
}

/// exp((logit - best) / temperature) in units of 2^-44.
struct Weigher {
  float best, rate, rate_rest;

  __device__ __forceinline__ u64 operator()(float logit) const {
    const float distance = logit - best;
    const float power = distance * rate;
    if (!(power > -float(kWeightBits + 2))) return 0;
    // What the subtraction and the product rounded away.
    const float other = distance - logit;  // -best, but for what was lost
    const float lost = (logit - (distance - other)) - (best + other);
    const float rest = fmaf(distance, rate, -power) + fmaf(distance, rate_rest, lost * rate);
    const float whole = rintf(power);
    const float mantissa = exp2f((power - whole) + rest);
    return __float2ull_rn(mantissa * __uint_as_float(uint32_t(127 + kWeightBits + int(whole)) << 23));
  }
};

struct ChooseMemory {
  uint32_t count[kBins], low[kBins], high[kBins];
  u64 sorted[kSorted];
  u64 warp[kWarps];
  float best_logit[kWarps];
  int best_id[kWarps];
  int bad[kWarps];
  float sum[kWarps];
  u64 reached, total, least, most;
  int found, collected, bin, upto_bin, listed;
  int newest;           // the id that was fed where only the card knows it; -1: none, or it has been adjusted
  float newest_plain;   // its logit before
};

/// Runs `each(logit, id)` for this thread's ids whose logit is above -infinity.
template <class Each>
__device__ __forceinline__ void for_each_logit(const float* logits, int first, int end, Each each) {
  for (int base = first + threadIdx.x; base < end; base += kThreads * kInFlight) {
    float logit[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      const int id = base + j * kThreads;
      logit[j] = id < end ? logits[id] : -INFINITY;
    }
#pragma unroll
    for (int j = 0; j < kInFlight; ++j)
      if (logit[j] > -INFINITY) each(logit[j], base + j * kThreads);
  }
}

/// Sum over the threads up to and including this one, and over all of them.
__device__ __forceinline__ u64 block_scan(u64 value, u64& total, ChooseMemory& memory) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
#pragma unroll
  for (int step = 1; step < kWarp; step <<= 1) {
    const u64 other = __shfl_up_sync(kEveryLane, value, step);
    if (lane >= step) value += other;
  }
  __syncthreads();
  if (lane == kWarp - 1) memory.warp[warp] = value;
  __syncthreads();
  u64 before = 0;
  total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += memory.warp[w];
    total += memory.warp[w];
  }
  return before + value;
}

__device__ __forceinline__ void add_to_bin(ChooseMemory& memory, int bin, u64 weight) {
  atomicAdd(&memory.count[bin], 1u);
  const uint32_t low = uint32_t(weight);
  uint32_t high = uint32_t(weight >> 32);
  if (low != 0 && atomicAdd(&memory.low[bin], low) + low < low) ++high;  // a carry, whoever comes first
  if (high != 0) atomicAdd(&memory.high[bin], high);
}

/// Sorts memory.sorted[0 .. size), the largest first. `size` is a power of two.
__device__ __forceinline__ void sort_down(int size, ChooseMemory& memory) {
  for (int run = 2; run <= size; run <<= 1)
    for (int step = run >> 1; step > 0; step >>= 1) {
      const int other = threadIdx.x ^ step;
      if (other > threadIdx.x && other < size) {
        const u64 a = memory.sorted[threadIdx.x], b = memory.sorted[other];
        if (((threadIdx.x & run) == 0) == (a < b)) memory.sorted[threadIdx.x] = b, memory.sorted[other] = a;
      }
      __syncthreads();
    }
}

/// The least power of two that holds `count`.
__device__ __forceinline__ int room_for(int count) { return count <= 1 ? 1 : 1 << (64 - __clzll(u64(count - 1))); }

/// The weight that a share of `total` has at least.
__device__ __forceinline__ u64 share_of(double top_p, u64 total) {
  return max(u64(1), min(total, __double2ull_ru(top_p * __ull2double_rn(total))));
}

/// What a rank in memory.sorted weighs; places that were not filled are 0.
__device__ __forceinline__ u64 weight_of_rank(u64 rank, Weigher weigh) {
  return rank == 0 ? 0 : weigh(logit_of(uint32_t(rank >> 32)));
}

}  // namespace exllama
