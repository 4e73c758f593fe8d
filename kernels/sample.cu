// What every chosen row of logits is asked: the largest logit and its id, whether all of them are
// numbers, the sum that turns logits into log-probabilities, and one id's logit.
//
// inspect_logits
//   Strategy   one block per row: a pass for the largest (the lowest id among equals), a pass for
//              the sum of exp(logit - largest). Threads take fixed strides and are merged in a
//              fixed order: the same bits every time. A row of 128k is half a megabyte from L2.
//   Reference  src/sampling/logprobs.ts
#include "common.cuh"

namespace exllama {

struct RowFacts {
  float highest;
  float sum;       // of exp(logit - highest)
  float target;    // logit of the target id, or 0
  int32_t id;      // of the highest logit, the lowest among equals
  int32_t bad;     // lowest id whose logit is NaN or +infinity, or INT32_MAX
  int32_t unused[3];
};
static_assert(sizeof(RowFacts) == 32);

struct InspectParams {
  const float* logits;     // [rows, vocab]
  const int32_t* targets;  // [rows]; -1: none
  RowFacts* facts;         // [rows]
  int32_t vocab;
  int32_t unused;
};
static_assert(sizeof(InspectParams) == 32);

constexpr int kInspectThreads = 1024, kInspectWarps = kInspectThreads / kWarp;

}  // namespace exllama

/// grid (rows), block 1024.
extern "C" __global__ void __launch_bounds__(1024) inspect_logits(const __grid_constant__ exllama::InspectParams p) {
  using namespace exllama;
  __shared__ float highest_of[kInspectWarps], sum_of[kInspectWarps];
  __shared__ int id_of[kInspectWarps], bad_of[kInspectWarps];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  allow_next();
  wait_previous();
  const float* logits = p.logits + size_t(blockIdx.x) * p.vocab;

  float highest = -INFINITY;
  int id = INT32_MAX, bad = INT32_MAX;
  for (int i = threadIdx.x; i < p.vocab; i += kInspectThreads) {
    const float logit = logits[i];
    if (!(logit < INFINITY)) bad = min(bad, i);
    if (logit > highest) highest = logit, id = i;
  }
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) {
    const float other = __shfl_xor_sync(0xffffffffu, highest, step);
    const int other_id = __shfl_xor_sync(0xffffffffu, id, step);
    if (other > highest || (other == highest && other_id < id)) highest = other, id = other_id;
    bad = min(bad, __shfl_xor_sync(0xffffffffu, bad, step));
  }
  if (lane == 0) highest_of[warp] = highest, id_of[warp] = id, bad_of[warp] = bad;
  __syncthreads();
  for (int w = 0; w < kInspectWarps; ++w) {
    if (highest_of[w] > highest || (highest_of[w] == highest && id_of[w] < id)) highest = highest_of[w], id = id_of[w];
    bad = min(bad, bad_of[w]);
  }

  float sum = 0.f;
  if (highest > -INFINITY)
    for (int i = threadIdx.x; i < p.vocab; i += kInspectThreads) sum += expf(logits[i] - highest);
  sum = warp_sum(sum);
  if (lane == 0) sum_of[warp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  float total = 0.f;
  for (int w = 0; w < kInspectWarps; ++w) total += sum_of[w];
  const int target = p.targets[blockIdx.x];
  RowFacts& facts = p.facts[blockIdx.x];
  facts.highest = highest;
  facts.sum = total;
  facts.target = target < 0 ? 0.f : logits[target];
  facts.id = id;
  facts.bad = bad;
}
