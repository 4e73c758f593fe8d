// linear_half_ring_k{2048,3072,4096,5120,8192}: y[m, n] = x[m, k] w[n, k] (+ bias) for 2 to 8 tokens over fp16 weights, fp32 out, on Hopper: an fp16 head
// of a small batch, and the facts of its logits. One block per multiprocessor; block 352.
//
// Strategy   Reading the weights takes all of the time, so nothing else may come between two reads (linear_head.cu does the same for one token):
//            two threads have the copy engine bring parts of 16 rows x 1024 k into a ring that fills shared memory, the first ones before
//            the kernel ahead has ended. Eight warps share out the k of a part; weights are operand A of mma.m16n8k16, x operand B, in
//            registers from beginning to end. One warp more adds up what the eight have of 16 rows, a slice of ids, and has its facts, while
//            those go on.
//   rows     lie 16 bytes further apart in shared memory than they are long, so that eight lanes that read a column meet all banks.
//   barriers full[s]: 16 arrivals, a row's copy each, and their bytes. empty[s]: eight, when a warp has read the part.
//            done[b]: eight, when a warp's sums of 16 rows are in shared memory; taken[b]: one, when they have been read. Whoever waits for a
//            place waits for those that need nothing of it any more but what is on its way, so that every phase ends.
// Bits       A sum is added by the same threads in the same order, whatever the number of blocks.
// Limits     m <= 8, k as the name says; in the image for 9.0 alone, where it has been measured
// Reference  linear_half_ref and inspect_logits
#include "bulk_ring.cuh"
#include "registers.cuh"
#include "sample_slots.cuh"

namespace exllama {

struct HalfRingParams {
  const __half* weights;  // [n, k]
  const __half* bias;     // [n] or null
  const __half* x;        // [m, k]
  float* y;               // [m, n]
  SliceFacts* slices;     // [m, n / 16 rounded up]
  int32_t m, n;
};
static_assert(sizeof(HalfRingParams) == 48);

constexpr int kRingWarps = 8, kRingCopiers = 2, kRingBlock = (kRingWarps + kRingCopiers + 1) * kWarp;
constexpr int kRingRows = 16, kRingPart = 1024, kRingSteps = kRingPart / kRingWarps / 16;  // rows and k of a part; products of a warp in it
constexpr int kRingStages = 6, kRingBuffers = 2;
constexpr int kRingRowBytes = 2 * kRingPart + 16, kRingStageBytes = kRingRows * kRingRowBytes;
constexpr int kRingBarrierBytes = 128, kRingSumBytes = kRingBuffers * kRingWarps * kWarp * 16;
// What halfRingLaunch() asks for.
static_assert(kRingBarrierBytes + kRingSumBytes + kRingStages * kRingStageBytes == 206464);
static_assert((2 * kRingStages + 2 * kRingBuffers) * 8 <= kRingBarrierBytes);

#ifdef EXLLAMA_WGMMA

struct RingShared {
  uint64_t *full, *empty;  // [kRingStages]
  uint64_t *done, *taken;  // [kRingBuffers]
  float4* sums;            // [kRingBuffers][kRingWarps][lane]
  uint8_t* ring;
  __device__ __forceinline__ explicit RingShared(uint8_t* base) {
    full = reinterpret_cast<uint64_t*>(base);
    empty = full + kRingStages;
    done = empty + kRingStages;
    taken = done + kRingBuffers;
    sums = reinterpret_cast<float4*>(base + kRingBarrierBytes);
    ring = base + kRingBarrierBytes + kRingSumBytes;
  }
};

/// The block's groups of 16 rows.
struct RingRange {
  int first, count;
  __device__ __forceinline__ explicit RingRange(int n) {
    const int groups = (n + kRingRows - 1) / kRingRows, blocks = gridDim.x, block = blockIdx.x;
    const int each = groups / blocks, more = groups % blocks;
    first = block * each + min(block, more);
    count = each + (block < more);
  }
};

/// Every second row of each part. Rows behind the last of all are copies of that.
template <int kParts>
__device__ __forceinline__ void ring_copies(const HalfRingParams& p, const RingShared& shared, const RingRange& range, int copier) {
  const uint64_t policy = evict_first_policy();
  RingPlace at;
#pragma unroll 1
  for (int group = 0; group < range.count; ++group)
#pragma unroll 1
    for (int part = 0; part < kParts; ++part) {
      barrier_wait(shared.empty + at.stage, at.parity ^ 1);
#pragma unroll 1
      for (int row = copier; row < kRingRows; row += kRingCopiers) {
        const int n = min((range.first + group) * kRingRows + row, p.n - 1);
        copy_bulk(shared.ring + at.stage * kRingStageBytes + row * kRingRowBytes, p.weights + size_t(n) * (kParts * kRingPart) + part * kRingPart,
                  2 * kRingPart, shared.full + at.stage, policy);
      }
      at.next(kRingStages);
    }
}

/// A warp's part of k of all rows of the block.
template <int kParts>
__device__ __forceinline__ void ring_products(const HalfRingParams& p, const RingShared& shared, const RingRange& range, int warp, int lane) {
  const int g = lane / 4, t = lane % 4;
  uint32_t x[kParts][kRingSteps][2];
  const __half* from = p.x + size_t(g) * (kParts * kRingPart) + warp * (kRingPart / kRingWarps) + 2 * t;
#pragma unroll
  for (int part = 0; part < kParts; ++part)
#pragma unroll
    for (int s = 0; s < kRingSteps; ++s)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        x[part][s][h] = g < p.m ? *reinterpret_cast<const uint32_t*>(from + part * kRingPart + s * 16 + h * 8) : 0u;
  // As load_matrix_x4() takes them: rows 0 to 15 of k 0 to 7, then of k 8 to 15.
  const uint8_t* weights = shared.ring + lane % 16 * kRingRowBytes + warp * (2 * kRingPart / kRingWarps) + lane / 16 * 16;
  RingPlace at;
#pragma unroll 1
  for (int group = 0; group < range.count; ++group) {
    float sum[2][4] = {};
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      barrier_wait(shared.full + at.stage, at.parity);
#pragma unroll
      for (int s = 0; s < kRingSteps; ++s) {
        uint32_t a[4];
        load_matrix_x4(a, weights + at.stage * kRingStageBytes + s * 32);
        mma_16x8x16(sum[s % 2], a, x[part][s]);
      }
      __syncwarp();
      if (lane == 0) barrier_arrive(shared.empty + at.stage);
      at.next(kRingStages);
    }
    const int buffer = group % kRingBuffers;
    barrier_wait(shared.taken + buffer, group / kRingBuffers & 1 ^ 1);
    shared.sums[(buffer * kRingWarps + warp) * kWarp + lane] =
        make_float4(sum[0][0] + sum[1][0], sum[0][1] + sum[1][1], sum[0][2] + sum[1][2], sum[0][3] + sum[1][3]);
    __syncwarp();
    if (lane == 0) barrier_arrive(shared.done + buffer);
  }
}

/// Facts of 16 rows of a token, of which eight lanes (every fourth) have two each, from row `id` on those eight rows apart.
__device__ __forceinline__ SliceFacts slice_facts(float low, float high, int id, int n) {
  if (id >= n) low = -INFINITY;
  if (id + 8 >= n) high = -INFINITY;
  SliceFacts facts = {-INFINITY, 0.f, INT32_MAX, INT32_MAX};
  if (!(high < INFINITY)) facts.bad = id + 8;
  if (!(low < INFINITY)) facts.bad = id;
  if (high > facts.highest) facts.highest = high, facts.id = id + 8;
  if (low > -INFINITY && low >= facts.highest) facts.highest = low, facts.id = id;
#pragma unroll
  for (int step = 4; step < kWarp; step *= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, facts.highest, step);
    const int other_id = __shfl_xor_sync(0xffffffffu, facts.id, step);
    if (other > facts.highest || (other == facts.highest && other_id < facts.id)) facts.highest = other, facts.id = other_id;
    facts.bad = min(facts.bad, __shfl_xor_sync(0xffffffffu, facts.bad, step));
  }
  if (facts.highest > -INFINITY) facts.sum = expf(low - facts.highest) + expf(high - facts.highest);
#pragma unroll
  for (int step = 4; step < kWarp; step *= 2) facts.sum += __shfl_xor_sync(0xffffffffu, facts.sum, step);
  return facts;
}

/// Adds up the warps' sums in their order. A lane has rows g and g + 8 of tokens 2 t and 2 t + 1.
__device__ __forceinline__ void ring_results(const HalfRingParams& p, const RingShared& shared, const RingRange& range, int lane) {
  const int g = lane / 4, t = lane % 4;
#pragma unroll 1
  for (int group = 0; group < range.count; ++group) {
    const int buffer = group % kRingBuffers, slice = range.first + group, n = slice * kRingRows + g;
    float bias[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) bias[h] = p.bias != nullptr && n + 8 * h < p.n ? __half2float(__ldg(p.bias + n + 8 * h)) : 0.f;
    barrier_wait(shared.done + buffer, group / kRingBuffers & 1);
    float sum[4] = {};
#pragma unroll
    for (int w = 0; w < kRingWarps; ++w) {
      const float4 v = shared.sums[(buffer * kRingWarps + w) * kWarp + lane];
      sum[0] += v.x, sum[1] += v.y, sum[2] += v.z, sum[3] += v.w;
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(shared.taken + buffer);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int token = 2 * t + c;
      const float logits[2] = {sum[c] + bias[0], sum[c + 2] + bias[1]};
      const SliceFacts facts = slice_facts(logits[0], logits[1], n, p.n);
#pragma unroll
      for (int h = 0; h < 2; ++h)
        if (token < p.m && n + 8 * h < p.n) p.y[size_t(token) * p.n + n + 8 * h] = logits[h];
      if (token < p.m && g == 0) p.slices[size_t(token) * ((p.n + kRingRows - 1) / kRingRows) + slice] = facts;
    }
  }
}

template <int kParts>
__device__ __forceinline__ void half_ring_body(const HalfRingParams& p, uint8_t* dynamic_shared) {
  const RingShared shared(dynamic_shared);
  const RingRange range(p.n);
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / kWarp, 0), lane = threadIdx.x % kWarp;
  allow_next();
  if (threadIdx.x == 0) {
    for (int s = 0; s < kRingStages; ++s) {
      barrier_init(shared.full + s, kRingRows);
      barrier_init(shared.empty + s, kRingWarps);
    }
    for (int b = 0; b < kRingBuffers; ++b) {
      barrier_init(shared.done + b, kRingWarps);
      barrier_init(shared.taken + b, 1);
    }
    barrier_init_done();
  }
  __syncthreads();
  if (warp < kRingWarps) {
    wait_previous();
    ring_products<kParts>(p, shared, range, warp, lane);
  } else if (warp < kRingWarps + kRingCopiers) {
    if (lane == 0) ring_copies<kParts>(p, shared, range, warp - kRingWarps);
  } else {
    wait_previous();  // who writes results may not be ahead of who has read the last ones
    ring_results(p, shared, range, lane);
  }
}

#endif  // EXLLAMA_WGMMA

}  // namespace exllama

// The k of each. Grid and dynamic shared memory by halfRingLaunch().
#ifdef EXLLAMA_WGMMA
#define EXLLAMA_RING_BODY(PARTS)                                  \
  extern __shared__ __align__(128) uint8_t dynamic_shared[];      \
  exllama::half_ring_body<PARTS>(p, dynamic_shared);
#define EXLLAMA_RING(K, PARTS)                                                                  \
  extern "C" __global__ void __launch_bounds__(exllama::kRingBlock, 1)                             \
      linear_half_ring_k##K(const __grid_constant__ exllama::HalfRingParams p) {                  \
    EXLLAMA_RING_BODY(PARTS)                                                                         \
  }
EXLLAMA_RING(2048, 2)
EXLLAMA_RING(3072, 3)
EXLLAMA_RING(4096, 4)
EXLLAMA_RING(5120, 5)
EXLLAMA_RING(8192, 8)

#endif  // EXLLAMA_WGMMA
