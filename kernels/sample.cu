// What every chosen row of logits is asked, and the choice of a token. Rows are read where the head
// wrote them; only a few numbers per row go to the host.
//
// inspect_logits
//   Computes   per slice of 4096 ids: the largest logit and its id (the lowest among equals), the sum
//              of exp(logit - largest), and the lowest id whose logit is no number.
//   Strategy   one block per (slice, row) keeps its slice in registers: one read of each logit.
// choose_token
//   Computes   the row's facts from its slices, in their order; then, where the row's slot asks for
//              it, the token as src/sampling/sample.ts chooses it: adjustments, mask, temperature,
//              top-k, top-p, min-p, the draw.
//   Strategy   one block per row. Truncation looks for one threshold, the worst (logit, id) that is
//              kept: a histogram over the distance to the best logit finds the bin that it lies in,
//              integer histograms narrow that range until it has 512 ids, which are sorted. Where
//              no more than 512 ids lie above it too, as with any usual top-k, all of them are
//              sorted, and the row is not read again.
//              Weights are exp((logit - best) / temperature) as whole multiples of 2^-44, so that
//              sums do not depend on their order and no floating-point atomics are needed: the
//              same bits every time. The draw walks the kept ids upwards.
//   Accuracy   thresholds are exact; weights are off by about 2^-22 of themselves, the host's by
//              2^-52: the drawn id differs where the cumulative share passes that near to the
//              uniform number. Adjusted logits are rounded to fp32, where the host keeps fp64.
//   Reference  src/sampling/sample.ts, src/sampling/logprobs.ts
#include "common.cuh"

namespace exllama {

/// One slice of a row.
struct SliceFacts {
  float highest;
  float sum;   // of exp(logit - highest)
  int32_t id;  // of the highest logit, the lowest among equals
  int32_t bad;  // lowest id whose logit is NaN or +infinity, or INT32_MAX
};
static_assert(sizeof(SliceFacts) == 16);

struct RowFacts {
  float highest;
  float sum;       // of exp(logit - highest)
  float target;    // logit of the target id, or 0
  int32_t id;      // of the highest logit, the lowest among equals
  int32_t bad;     // lowest id whose logit is NaN or +infinity, or INT32_MAX
  int32_t chosen;  // where the slot asks for it; -1: nothing may be chosen
  float chosen_logit;  // before adjustments
  int32_t kept;    // ids among which was drawn
};
static_assert(sizeof(RowFacts) == 32);

/// One id's changes: logit > 0 ? logit / factor : logit * factor, then + add (-infinity: never chosen).
struct Adjustment {
  double factor, add;
  int32_t id;
  float plain;  // the logit before, kept here by the kernel
};
static_assert(sizeof(Adjustment) == 24);

enum Mode : int32_t { kNothing = 0, kGreedy = 1, kDraw = 2 };

/// How a row's token is chosen.
struct SampleSlot {
  double uniform;     // in [0, 1)
  double min_distance;  // temperature * log(min-p), or -infinity
  double top_p;
  float rate, rate_rest;  // log2(e) / temperature, and what fp32 leaves of it
  int32_t mode;
  int32_t top_k;          // 0: all
  int32_t adjustments_at; // bytes into the pool
  int32_t adjustments;
  int32_t mask_at;        // bytes into the pool
  int32_t mask_words;     // -1: every id is allowed
  double newest_factor;   // of the id that was fed, which the adjustments do not know; 0: none
};
static_assert(sizeof(SampleSlot) == 64);

struct InspectParams {
  const float* logits;  // [rows, vocab]
  SliceFacts* slices;   // [rows, slices]
  int32_t vocab;
  int32_t slices_per_row;
};
static_assert(sizeof(InspectParams) == 24);

struct ChooseParams {
  float* logits;            // [rows, vocab]; adjusted in place
  const int32_t* targets;   // [rows]; -1: none
  const SliceFacts* slices; // [rows, slices]
  const SampleSlot* slots;  // [rows]
  uint8_t* pool;
  RowFacts* facts;          // [rows]
  int32_t* ids;             // [rows] what a decode step was fed, and where the next one finds its own; or null
  int32_t vocab;
  int32_t slices_per_row;
};
static_assert(sizeof(ChooseParams) == 64);

constexpr int kSlice = 4096, kInspectThreads = 256, kInspectWarps = kInspectThreads / kWarp;
constexpr int kPerThread = kSlice / kInspectThreads;
constexpr int kThreads = 512, kWarps = kThreads / kWarp, kInFlight = 16;
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

__device__ __forceinline__ float adjusted(double logit, double factor, double add) {
  return float((logit > 0 ? logit / factor : logit * factor) + add);
}

/// Applies a row's adjustments and mask. @returns the best that is left, id INT32_MAX: nothing
__device__ __forceinline__ Best adjust(float* logits, int vocab, const SampleSlot& slot, uint8_t* pool, ChooseMemory& memory) {
  Adjustment* adjustments = reinterpret_cast<Adjustment*>(pool + slot.adjustments_at);
  const int newest = memory.newest;
  __syncthreads();
  for (int i = threadIdx.x; i < slot.adjustments; i += kThreads) {
    Adjustment& change = adjustments[i];
    const float plain = logits[change.id];
    change.plain = plain;
    // An id counts at its newest place.
    if (change.id == newest) memory.newest = -1;
    logits[change.id] = adjusted(plain, change.id == newest ? slot.newest_factor : change.factor, change.add);
  }
  __syncthreads();
  if (threadIdx.x == 0 && memory.newest >= 0) {
    memory.newest_plain = logits[newest];
    logits[newest] = adjusted(memory.newest_plain, slot.newest_factor, 0);
  }
  __syncthreads();
  const uint32_t* mask = reinterpret_cast<const uint32_t*>(pool + slot.mask_at);
  Best best = {-INFINITY, INT32_MAX};
  for_each_logit(logits, 0, vocab, [&](float logit, int id) {
    if (slot.mask_words >= 0 && !(id / 32 < slot.mask_words && (mask[id / 32] >> (id % 32) & 1)))
      logits[id] = -INFINITY;
    else
      best = better(best, {logit, id});
  });
  const int warp = threadIdx.x / kWarp;
  best = warp_best(best);
  if (threadIdx.x % kWarp == 0) memory.best_logit[warp] = best.logit, memory.best_id[warp] = best.id;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) best = better(best, {memory.best_logit[w], memory.best_id[w]});
  return best;
}

}  // namespace exllama

/// grid (slices, rows), block 256.
extern "C" __global__ void __launch_bounds__(256) inspect_logits(const __grid_constant__ exllama::InspectParams p) {
  using namespace exllama;
  __shared__ float highest_of[kInspectWarps], sum_of[kInspectWarps];
  __shared__ int id_of[kInspectWarps], bad_of[kInspectWarps];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  allow_next();
  wait_previous();
  const float* logits = p.logits + size_t(blockIdx.y) * p.vocab;
  const int first = blockIdx.x * kSlice + threadIdx.x;

  float logit[kPerThread];
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    const int id = first + j * kInspectThreads;
    logit[j] = id < p.vocab ? logits[id] : -INFINITY;
  }
  Best best = {-INFINITY, INT32_MAX};
  int bad = INT32_MAX;
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    const int id = first + j * kInspectThreads;
    if (!(logit[j] < INFINITY)) bad = min(bad, id);
    if (logit[j] > best.logit) best = {logit[j], id};
  }
  best = warp_best(best);
  bad = warp_min(bad);
  if (lane == 0) highest_of[warp] = best.logit, id_of[warp] = best.id, bad_of[warp] = bad;
  __syncthreads();
  for (int w = 0; w < kInspectWarps; ++w) {
    best = better(best, {highest_of[w], id_of[w]});
    bad = min(bad, bad_of[w]);
  }
  float sum = 0.f;
  if (best.logit > -INFINITY)
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) sum += expf(logit[j] - best.logit);
  sum = warp_sum(sum);
  if (lane == 0) sum_of[warp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  float total = 0.f;
  for (int w = 0; w < kInspectWarps; ++w) total += sum_of[w];
  p.slices[size_t(blockIdx.y) * p.slices_per_row + blockIdx.x] = {best.logit, total, best.id, bad};
}

/// grid (rows), block 512.
extern "C" __global__ void __launch_bounds__(512) choose_token(const __grid_constant__ exllama::ChooseParams p) {
  using namespace exllama;
  __shared__ ChooseMemory memory;
  __shared__ SampleSlot slot;
  __shared__ RowFacts row;
  const int lane = threadIdx.x % kWarp;
  allow_next();
  wait_previous();
  float* logits = p.logits + size_t(blockIdx.x) * p.vocab;
  const SliceFacts* slices = p.slices + size_t(blockIdx.x) * p.slices_per_row;

  if (threadIdx.x < kWarp) {
    Best best = {-INFINITY, INT32_MAX};
    int bad = INT32_MAX;
    for (int s = lane; s < p.slices_per_row; s += kWarp) {
      best = better(best, {slices[s].highest, slices[s].id});
      bad = min(bad, slices[s].bad);
    }
    best = warp_best(best);
    bad = warp_min(bad);
    float sum = 0.f;
    for (int s = lane; s < p.slices_per_row; s += kWarp)
      if (slices[s].highest > -INFINITY) sum += slices[s].sum * expf(slices[s].highest - best.logit);
    sum = warp_sum(sum);
    if (lane == 0) {
      const int target = p.targets[blockIdx.x];
      slot = p.slots[blockIdx.x];
      row = {best.logit, sum, target < 0 ? 0.f : logits[target], best.id, bad, best.id, best.logit, 0};
      memory.newest = slot.newest_factor != 0 && p.ids != nullptr ? p.ids[blockIdx.x] : -1;
      // Logits that are no numbers are reported, and left as they are.
      if (bad != INT32_MAX || !(best.logit > -INFINITY)) slot.mode = kNothing;
    }
  }
  __syncthreads();
  if (slot.mode != kNothing) {
    Best best = {row.highest, row.id};
    if (slot.adjustments > 0 || slot.mask_words >= 0 || memory.newest >= 0) best = adjust(logits, p.vocab, slot, p.pool, memory);
    int chosen = best.id == INT32_MAX ? -1 : best.id, kept = 0;
    if (slot.mode == kDraw && chosen >= 0) {
      const Weigher weigh = {best.logit, slot.rate, slot.rate_rest};
      u64 threshold = 0;
      int listed = 0;
      // Top-k, then top-p.
      for (int stage = 0; stage < 2; ++stage) {
        if (stage == 0 ? slot.top_k == 0 : !(slot.top_p < 1)) continue;
        if (listed > 0) {
          listed = narrow_list(listed, weigh, slot.top_p, memory);
        } else {
          threshold = narrow(logits, p.vocab, weigh, threshold, stage == 0 ? slot.top_k : 0, slot.top_p, memory);
          listed = memory.listed;
        }
        __syncthreads();
      }
      if (slot.min_distance > -INFINITY) {
        const float least = __double2float_ru(double(best.logit) + slot.min_distance);
        threshold = max(threshold, u64(key_of(fminf(least, best.logit))) << 32);
        if (listed > 0) {
          u64 count;
          block_scan(threadIdx.x < listed && memory.sorted[threadIdx.x] >= threshold, count, memory);
          listed = int(count);
        }
      }
      kept = listed;
      chosen = listed > 0 ? draw_list(listed, weigh, slot.uniform, memory)
                          : draw(logits, p.vocab, weigh, threshold, slot.uniform, kept, memory);
    }
    if (threadIdx.x == 0) row.chosen = chosen, row.kept = kept, row.chosen_logit = chosen < 0 ? 0.f : logits[chosen];
    __syncthreads();
    const Adjustment* adjustments = reinterpret_cast<const Adjustment*>(p.pool + slot.adjustments_at);
    for (int i = threadIdx.x; i < slot.adjustments; i += kThreads)
      if (adjustments[i].id == chosen) row.chosen_logit = adjustments[i].plain;
    if (threadIdx.x == 0 && memory.newest >= 0 && memory.newest == chosen) row.chosen_logit = memory.newest_plain;
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    p.facts[blockIdx.x] = row;
    // Logits that are no numbers have no best id; the host hears of them, whatever becomes of the next step.
    if (p.ids != nullptr) p.ids[blockIdx.x] = row.chosen >= 0 && row.chosen < p.vocab ? row.chosen : 0;
  }
}
