// What every chosen row of logits is asked, and the choice of a token. Rows are read where the head
// wrote them; only a few numbers per row go to the host.
//
// inspect_logits
//   Computes   per slice of 4096 ids: the largest logit and its id (the lowest among equals), the sum
//              of exp(logit - largest), and the lowest id whose logit is no number.
//   Strategy   one block per (slice, row) keeps its slice in registers: one read of each logit.
// choose_token
//   Computes   the row's facts from its slices, of inspect_logits or of linear_head.cu; then, where the row's slot asks for
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
#include "sample_narrow.cuh"

namespace exllama {

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

struct Facts {
  Best best;
  float sum;
  int bad;
};

/// Of a row, from its slices, by all threads, for linear_head.cu leaves thousands: some slices of each thread are on their way
/// together. Which thread adds which slice, and when, follows from their number alone.
__device__ __forceinline__ Facts facts_of(const SliceFacts* slices, int count, ChooseMemory& memory) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const auto for_each_slice = [&](auto&& see) {
    for (int base = threadIdx.x; base < count; base += kThreads * kSlicesInFlight) {
      SliceFacts slice[kSlicesInFlight];
#pragma unroll
      for (int b = 0; b < kSlicesInFlight; ++b) {
        const int at = base + b * kThreads;
        const uint4 v = at < count ? reinterpret_cast<const uint4*>(slices)[at] : make_uint4(0xff800000u, 0, INT32_MAX, INT32_MAX);
        slice[b] = {__uint_as_float(v.x), __uint_as_float(v.y), int(v.z), int(v.w)};
      }
#pragma unroll
      for (int b = 0; b < kSlicesInFlight; ++b) see(slice[b]);
    }
  };
  Facts facts = {{-INFINITY, INT32_MAX}, 0.f, INT32_MAX};
  for_each_slice([&](const SliceFacts& slice) {
    facts.best = better(facts.best, {slice.highest, slice.id});
    facts.bad = min(facts.bad, slice.bad);
  });
  facts.best = warp_best(facts.best);
  facts.bad = warp_min(facts.bad);
  if (lane == 0) memory.best_logit[warp] = facts.best.logit, memory.best_id[warp] = facts.best.id, memory.bad[warp] = facts.bad;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    facts.best = better(facts.best, {memory.best_logit[w], memory.best_id[w]});
    facts.bad = min(facts.bad, memory.bad[w]);
  }
  float sum = 0.f;
  for_each_slice([&](const SliceFacts& slice) {
    if (slice.highest > -INFINITY) sum += slice.sum * expf(slice.highest - facts.best.logit);
  });
  sum = warp_sum(sum);
  if (lane == 0) memory.sum[warp] = sum;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) facts.sum += memory.sum[w];
  return facts;
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
  allow_next();
  wait_previous();
  float* logits = p.logits + size_t(blockIdx.x) * p.vocab;
  const SliceFacts* slices = p.slices + size_t(blockIdx.x) * p.slices_per_row;

  if (threadIdx.x == kThreads - 1) {  // on its way while slices are
    const int target = p.targets[blockIdx.x];
    slot = p.slots[blockIdx.x];
    row.target = target < 0 ? 0.f : logits[target];
    memory.newest = slot.newest_factor != 0 && p.ids != nullptr ? p.ids[blockIdx.x] : -1;
  }
  const Facts facts = facts_of(slices, p.slices_per_row, memory);
  if (threadIdx.x == 0) {
    row = {facts.best.logit, facts.sum, row.target, facts.best.id, facts.bad, facts.best.id, facts.best.logit, 0};
    // Logits that are no numbers are reported, and left as they are.
    if (facts.bad != INT32_MAX || !(facts.best.logit > -INFINITY)) slot.mode = kNothing;
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
