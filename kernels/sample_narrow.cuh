// Truncation and the draw of choose_token(): one threshold, and the id whose share holds the uniform number.
#pragma once

#include "sample_order.cuh"

namespace exllama {

/// The rank of the worst id of the smallest set of best ids, none below `threshold`, that reaches a goal:
/// `top_k` ids, or (top_k 0) a share `top_p` of the weight. `threshold` where all of them do not.
/// memory.listed: how many they are where all of them lie in memory.sorted, the best first; else 0.
__device__ __forceinline__ u64 narrow(const float* logits, int vocab, Weigher weigh, u64 threshold, int top_k, double top_p,
                      ChooseMemory& memory) {
  const bool by_count = top_k > 0;
  u64 least = threshold, most = ~u64(0), goal = top_k;
  // Most ids are told apart by their logits alone.
  const float floor = threshold == 0 ? -INFINITY : logit_of(uint32_t(threshold >> 32));
  int shift = 0, size = kSorted;
  bool listed = false;
  for (int level = 0;; ++level) {
    for (int bin = threadIdx.x; bin < kBins; bin += kThreads) memory.count[bin] = memory.low[bin] = memory.high[bin] = 0;
    if (threadIdx.x == 0) memory.found = 0, memory.collected = 0, memory.least = ~u64(0), memory.most = 0, memory.listed = 0;
    __syncthreads();
    const auto bin_of = [&](float logit, u64 rank) {
      return level == 0 ? int(fminf((weigh.best - logit) * kBinsPerLogit, float(kBins - 1))) : int((most - rank) >> shift);
    };
    for_each_logit(logits, 0, vocab, [&](float logit, int id) {
      if (logit < floor) return;
      const u64 rank = rank_of(logit, id);
      if (rank >= least && rank <= most) add_to_bin(memory, bin_of(logit, rank), by_count ? 0 : weigh(logit));
    });
    __syncthreads();
    const int bin = 2 * threadIdx.x;
    const auto measure = [&](int at) {
      return by_count ? u64(memory.count[at]) : u64(memory.high[at]) << 32 | memory.low[at];
    };
    const u64 first = measure(bin), second = measure(bin + 1);
    u64 total;
    const u64 upto = block_scan(first + second, total, memory);
    if (level == 0 && !by_count) goal = share_of(top_p, total);
    if (total < goal) return threshold;
    const u64 ids_upto = block_scan(u64(memory.count[bin]) + memory.count[bin + 1], total, memory);
    u64 before = upto - first - second;
    if (before < goal && goal <= upto) {
      const bool in_second = goal > before + first;
      if (in_second) before += first;
      memory.bin = bin + in_second;
      memory.reached = before;
      memory.upto_bin = int(ids_upto) - (in_second ? 0 : int(memory.count[bin + 1]));
    }
    memory.sorted[threadIdx.x] = 0;
    __syncthreads();
    const int chosen = memory.bin;
    if (level == 0 && memory.upto_bin <= kSorted) {
      // Everything from the best on. A little more than the bin is looked at, for the rounding of its border.
      listed = true;
      size = room_for(memory.upto_bin);
      const float lowest = chosen == kBins - 1 ? floor : fmaxf(floor, weigh.best - float(chosen + 2) / kBinsPerLogit);
      for_each_logit(logits, 0, vocab, [&](float logit, int id) {
        if (logit < lowest) return;
        const u64 rank = rank_of(logit, id);
        if (rank >= least && bin_of(logit, rank) <= chosen) memory.sorted[atomicAdd(&memory.collected, 1)] = rank;
      });
      __syncthreads();
      break;
    }
    goal -= memory.reached;
    const uint32_t candidates = memory.count[chosen];
    if (candidates <= kSorted) {
      size = room_for(int(candidates));
      for_each_logit(logits, 0, vocab, [&](float logit, int id) {
        if (logit < floor) return;
        const u64 rank = rank_of(logit, id);
        if (rank >= least && rank <= most && bin_of(logit, rank) == chosen)
          memory.sorted[atomicAdd(&memory.collected, 1)] = rank;
      });
      __syncthreads();
      break;
    }
    if (level == 0) {
      u64 low = ~u64(0), high = 0;
      for_each_logit(logits, 0, vocab, [&](float logit, int id) {
        const u64 rank = rank_of(logit, id);
        if (rank >= least && bin_of(logit, rank) == chosen) low = min(low, rank), high = max(high, rank);
      });
      atomicMin(&memory.least, low);
      atomicMax(&memory.most, high);
      __syncthreads();
      least = memory.least, most = memory.most;
    } else {
      most -= u64(chosen) << shift;
      least = max(least, most - ((u64(1) << shift) - 1));
    }
    shift = max(0, 64 - __clzll(most - least) - kBinBits);
    __syncthreads();
  }
  sort_down(size, memory);
  const u64 rank = memory.sorted[threadIdx.x];
  const u64 own = by_count ? rank != 0 : weight_of_rank(rank, weigh);
  u64 total;
  const u64 upto = block_scan(own, total, memory);
  if (upto - own < goal && goal <= upto) memory.least = rank, memory.listed = listed ? threadIdx.x + 1 : 0;
  __syncthreads();
  return memory.least;
}

/// How many of the first `listed` ids of memory.sorted reach a share of their weight.
__device__ __forceinline__ int narrow_list(int listed, Weigher weigh, double top_p, ChooseMemory& memory) {
  const u64 own = threadIdx.x < listed ? weight_of_rank(memory.sorted[threadIdx.x], weigh) : 0;
  u64 total;
  const u64 upto = block_scan(own, total, memory);
  const u64 goal = share_of(top_p, total);
  if (upto - own < goal && goal <= upto) memory.found = threadIdx.x + 1;
  __syncthreads();
  return memory.found;
}

/// draw() from the first `listed` ids of memory.sorted.
__device__ __forceinline__ int draw_list(int listed, Weigher weigh, double uniform, ChooseMemory& memory) {
  const u64 rank = threadIdx.x < listed ? memory.sorted[threadIdx.x] : 0;
  __syncthreads();
  memory.sorted[threadIdx.x] = rank == 0 ? 0 : rank << 32 | rank >> 32;  // the lowest id is the largest now
  __syncthreads();
  sort_down(room_for(listed), memory);
  const u64 place = memory.sorted[threadIdx.x];
  const u64 own = place == 0 ? 0 : weigh(logit_of(uint32_t(place)));
  u64 total;
  const u64 upto = block_scan(own, total, memory);
  const u64 target = min(total - 1, __double2ull_rd(uniform * __ull2double_rn(total)));
  if (upto - own <= target && target < upto) memory.found = int(~uint32_t(place >> 32));
  __syncthreads();
  return memory.found;
}

/// The id whose share of the kept weight holds `uniform`, walking upwards.
__device__ __forceinline__ int draw(const float* logits, int vocab, Weigher weigh, u64 threshold, double uniform, int& kept,
                    ChooseMemory& memory) {
  const auto weight_of = [&](float logit, int id) { return rank_of(logit, id) >= threshold ? weigh(logit) : 0; };
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int chunk = (vocab + kWarps - 1) / kWarps;
  const int end = min(vocab, (warp + 1) * chunk);
  u64 sum = 0;
  int count = 0;
  for (int base = warp * chunk + lane; base < end; base += kWarp * kInFlight) {
    float logit[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) logit[j] = base + j * kWarp < end ? logits[base + j * kWarp] : -INFINITY;
#pragma unroll
    for (int j = 0; j < kInFlight; ++j)
      if (logit[j] > -INFINITY && rank_of(logit[j], base + j * kWarp) >= threshold) sum += weigh(logit[j]), ++count;
  }
  u64 total, all;
  u64 upto = block_scan(sum, total, memory);
  block_scan(u64(count), all, memory);
  kept = int(all);
  // The last lane of a warp knows the sum up to the end of its chunk, the lane before the first one what came before.
  const u64 target = min(total - 1, __double2ull_rd(uniform * __ull2double_rn(total)));
  const u64 chunk_end = __shfl_sync(kEveryLane, upto, kWarp - 1);
  const u64 chunk_begin = __shfl_sync(kEveryLane, upto - sum, 0);
  if (lane == 0 && chunk_begin <= target && target < chunk_end) memory.bin = warp, memory.reached = chunk_begin;
  __syncthreads();
  // That chunk again, a few neighbours for each thread.
  const int chunk_first = memory.bin * chunk, chunk_last = min(vocab, chunk_first + chunk);
  const u64 reached = memory.reached;
  const int each = (chunk_last - chunk_first + kThreads - 1) / kThreads;
  const int from = min(chunk_last, chunk_first + int(threadIdx.x) * each), to = min(chunk_last, from + each);
  sum = 0;
  for (int id = from; id < to; ++id)
    if (logits[id] > -INFINITY) sum += weight_of(logits[id], id);
  upto = reached + block_scan(sum, all, memory);
  u64 passed = upto - sum;
  if (passed <= target && target < upto)
    for (int id = from; id < to; ++id) {
      if (logits[id] > -INFINITY) passed += weight_of(logits[id], id);
      if (passed > target) {
        memory.found = id;
        break;
      }
    }
  __syncthreads();
  return memory.found;
}

}  // namespace exllama
