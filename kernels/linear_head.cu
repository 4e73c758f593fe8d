// linear_head_k*: the end of a step for one token, in one launch: RMSNorm of its row of the residual stream, logits of all ids
// over fp16 weights as the checkpoint has them, and what inspect_logits (sample.cu) would find out about them.
//
//   x = norm(residual[row])        logits[n] = sum_k w[n, k] * x[k] (+ bias)        facts of every slice of ids
//
// grid by headLaunch() in src/backend/cuda/outputs/head-launch.ts, at most one block per multiprocessor; block 320.
//
// Strategy   Reading the weights takes all of the time, so nothing else may come between two reads. A thread has the copy engine
//            bring row after row of the block's own, which lie one behind the other, into a ring that fills shared memory.
//            The first are asked for before the kernel ahead has ended; that x then waits behind a whole ring costs nothing, for
//            memory has enough to do meanwhile. Each block normalises the row itself.
//            Eight warps share out k: a thread has its part of x in registers and reads from shared memory nothing but
//            weights. The sums of the rows of a stage are added over a warp together, half of them in either half of it. One warp
//            more adds up what the eight have of 32 rows, and has the facts of their slices, while those go on.
// Slices     Rows are dealt out to blocks in whole slices, which are the same whatever the number of blocks: of as many ids as
//            make some dozens of kilobytes of weights, so that no block has much more to read than another. A sum is added by the
//            same threads in the same order in whichever block: so all bits are the same on cards with other numbers of
//            multiprocessors.
// Limits     k % 8 == 0, k <= 8192; in the image for 9.0 alone, where it has been measured
// Reference  rms_norm_few, linear_half_gemv_m8 and inspect_logits, one after the other; x has the same bits
#include "bulk_ring.cuh"
#include "registers.cuh"
#include "sample_slots.cuh"

namespace exllama {

struct HeadParams {
  const __half* weights;   // [n, k]
  const __half* bias;      // [n] or null
  const float* residual;   // [*, k]
  const int32_t* rows;     // [1] which row of it
  const __half* norm;      // [k]
  float* hidden_state;     // [k] x in f32
  float* logits;           // [n]
  SliceFacts* slices;      // [n / HeadShape::kSlice, rounded up]
  int32_t n, k;
  int32_t stages;          // of the ring
  float eps;
};
static_assert(sizeof(HeadParams) == 80);

constexpr int kHeadWarps = 8, kHeadThreads = kHeadWarps * kWarp;  // that multiply
constexpr int kHeadBlock = kHeadThreads + 2 * kWarp;              // one thread copies, one warp finishes
constexpr int kHeadBatch = kWarp, kHeadBuffers = 2;               // rows that are finished together; of the warps' sums
constexpr int kHeadMostStages = 16;
constexpr int kHeadBarrierBytes = 512;  // barriers, sums of squares
constexpr int kHeadSumBytes = kHeadBuffers * kHeadWarps * kHeadBatch * 4;

/// What follows from k: cells of eight k that a thread has of a row.
template <int kCells>
struct HeadShape {
  static constexpr int kRows = kCells == 1 ? 8 : kCells == 2 ? 4 : 2;  // of a stage, at most 32 KB
  static constexpr int kSlice = kCells == 1 ? 16 : 8;                  // ids; the same as headSlice() in head-launch.ts
  static_assert(kSlice % kRows == 0 && kHeadBatch % kSlice == 0);
};

#ifdef EXLLAMA_WGMMA

/// What lies where in a block's dynamic shared memory; the same arithmetic as head-launch.ts.
struct HeadShared {
  uint64_t *full, *empty;  // [kHeadMostStages]
  uint64_t *done, *taken;  // [kHeadBuffers] sums are there; they have been read
  float* squares;          // [2 * kHeadWarps]
  float* sums;             // [kHeadBuffers][kHeadWarps][kHeadBatch]
  __half* x;               // [k]
  uint8_t* ring;

  __device__ __forceinline__ HeadShared(uint8_t* base, int k) {
    full = reinterpret_cast<uint64_t*>(base);
    empty = full + kHeadMostStages;
    done = empty + kHeadMostStages;
    taken = done + kHeadBuffers;
    squares = reinterpret_cast<float*>(base + kHeadBarrierBytes) - 2 * kHeadWarps;
    sums = reinterpret_cast<float*>(base + kHeadBarrierBytes);
    x = reinterpret_cast<__half*>(base + kHeadBarrierBytes + kHeadSumBytes);
    ring = base + kHeadBarrierBytes + kHeadSumBytes + ((2 * k + 127) & ~127);
  }
};
static_assert((2 * kHeadMostStages + 2 * kHeadBuffers) * 8 + 2 * kHeadWarps * 4 <= kHeadBarrierBytes);

/// The block's rows: whole slices, one behind the other.
struct HeadRange {
  int first, count;
  __device__ __forceinline__ HeadRange(int n, int slice) {
    const int slices = (n + slice - 1) / slice, blocks = gridDim.x, block = blockIdx.x;
    const int each = slices / blocks, more = slices % blocks;
    first = (block * each + min(block, more)) * slice;
    count = min((each + (block < more)) * slice, n - first);
  }
};

/// The warps that multiply.
__device__ __forceinline__ void meet_head() { asm volatile("bar.sync 1, %0;" ::"n"(kHeadThreads) : "memory"); }

/// Has the copy engine bring the block's rows, one stage after the other.
template <int kRows>
__device__ __forceinline__ void head_copies(const HeadParams& p, const HeadShared& shared, const HeadRange& range) {
  const uint64_t policy = evict_first_policy();
  const int row_bytes = 2 * p.k, stage_bytes = kRows * row_bytes;
  const uint8_t* from = reinterpret_cast<const uint8_t*>(p.weights) + size_t(range.first) * row_bytes;
  RingPlace at;
#pragma unroll 1
  for (int row = 0; row < range.count; row += kRows, from += stage_bytes) {
    barrier_wait(shared.empty + at.stage, at.parity ^ 1);
    copy_bulk(shared.ring + at.stage * stage_bytes, from, min(kRows, range.count - row) * row_bytes, shared.full + at.stage, policy);
    at.next(p.stages);
  }
}

/// x into shared memory, as rms_norm_few has it, bit by bit: a thread stands for two of that kernel's.
__device__ __forceinline__ void head_norm(const HeadParams& p, const HeadShared& shared, int warp, int lane) {
  constexpr int kPlaces = 2, kMost = 4;
  const int cells = p.k / 4;
  const auto cell = [](int place, int b) { return (b * kPlaces + place) * kHeadThreads + static_cast<int>(threadIdx.x); };
  uint2 weights[kPlaces][kMost];
#pragma unroll
  for (int place = 0; place < kPlaces; ++place)
#pragma unroll
    for (int b = 0; b < kMost; ++b)
      weights[place][b] = cell(place, b) < cells ? __ldg(reinterpret_cast<const uint2*>(p.norm) + cell(place, b)) : make_uint2(0, 0);
  wait_previous();
  const float4* x = reinterpret_cast<const float4*>(p.residual + size_t(p.rows[0]) * p.k);
  float4 v[kPlaces][kMost];
#pragma unroll
  for (int place = 0; place < kPlaces; ++place)
#pragma unroll
    for (int b = 0; b < kMost; ++b) v[place][b] = cell(place, b) < cells ? x[cell(place, b)] : make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
  for (int place = 0; place < kPlaces; ++place) {
    float squares = 0.f;
#pragma unroll
    for (int b = 0; b < kMost; ++b) {
      const float4& u = v[place][b];
      squares += u.x * u.x + u.y * u.y + u.z * u.z + u.w * u.w;
    }
    squares = warp_sum(squares);
    if (lane == 0) shared.squares[place * kHeadWarps + warp] = squares;
  }
  meet_head();
  float sum = 0.f;
#pragma unroll
  for (int w = 0; w < kPlaces * kHeadWarps; ++w) sum += shared.squares[w];
  const float scale = rsqrtf(sum / static_cast<float>(p.k) + p.eps);
#pragma unroll
  for (int place = 0; place < kPlaces; ++place)
#pragma unroll
    for (int b = 0; b < kMost; ++b) {
      const int at = cell(place, b);
      if (at >= cells) break;
      const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&weights[place][b].x));
      const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&weights[place][b].y));
      const float4& u = v[place][b];
      const float4 out = make_float4(u.x * scale * low.x, u.y * scale * low.y, u.z * scale * high.x, u.w * scale * high.y);
      const __half2 pairs[2] = {__floats2half2_rn(out.x, out.y), __floats2half2_rn(out.z, out.w)};
      reinterpret_cast<uint2*>(shared.x)[at] = *reinterpret_cast<const uint2*>(pairs);
      if (blockIdx.x == 0) reinterpret_cast<float4*>(p.hidden_state)[at] = out;
    }
  meet_head();
}

/// Eight halves.
__device__ __forceinline__ void to_floats(const uint4& v, float (&to)[8]) {
  const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&words[i]));
    to[2 * i] = pair.x, to[2 * i + 1] = pair.y;
  }
}

/// Sums of kRows numbers over a warp: lane l has that of number l * kRows / 32. The same bits whichever number it is.
template <int kRows>
__device__ __forceinline__ float sums_of_rows(float (&v)[kRows], int lane) {
  int step = kWarp / 2;
#pragma unroll
  for (int count = kRows / 2; count > 0; count /= 2, step /= 2) {
    const bool upper = lane & step;
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const float kept = upper ? v[i + count] : v[i], given = upper ? v[i] : v[i + count];
      v[i] = kept + __shfl_xor_sync(0xffffffffu, given, step);
    }
  }
#pragma unroll
  for (; step > 0; step /= 2) v[0] += __shfl_xor_sync(0xffffffffu, v[0], step);
  return v[0];
}

/// A warp's part of all rows of the block.
template <int kCells>
__device__ __forceinline__ void head_products(const HeadParams& p, const HeadShared& shared, const HeadRange& range, int warp, int lane) {
  constexpr int kRows = HeadShape<kCells>::kRows, kLanes = kWarp / kRows;
  const int cells = p.k / 8, row_bytes = 2 * p.k;
  const auto is_there = [&](int j) { return static_cast<int>(threadIdx.x) + j * kHeadThreads < cells; };
  if (warp * kWarp >= cells) return;
  float x[kCells][8];
#pragma unroll
  for (int j = 0; j < kCells; ++j)
    to_floats(is_there(j) ? reinterpret_cast<const uint4*>(shared.x)[threadIdx.x + j * kHeadThreads] : make_uint4(0, 0, 0, 0), x[j]);
  RingPlace at;
#pragma unroll 1
  for (int row = 0; row < range.count; row += kRows) {
    const int batch = row / kHeadBatch, of_batch = row % kHeadBatch, buffer = batch % kHeadBuffers;
    const uint8_t* from = shared.ring + at.stage * (kRows * row_bytes) + threadIdx.x * 16;
    float sums[kRows] = {};
    barrier_wait(shared.full + at.stage, at.parity);
    // Rows behind the last of all have whatever lay there before; nobody asks for their sums.
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int j = 0; j < kCells; ++j) {
        // Only a row's last cells may be missing.
        const bool loads = j + 1 < kCells || is_there(j);
        float w[8];
        to_floats(loads ? *reinterpret_cast<const uint4*>(from + r * row_bytes + j * kHeadThreads * 16) : make_uint4(0, 0, 0, 0), w);
#pragma unroll
        for (int i = 0; i < 8; ++i) sums[r] += w[i] * x[j][i];
      }
    __syncwarp();
    if (lane == 0) barrier_arrive(shared.empty + at.stage);
    at.next(p.stages);
    const float sum = sums_of_rows<kRows>(sums, lane);
    if (of_batch == 0) barrier_wait(shared.taken + buffer, batch / kHeadBuffers & 1 ^ 1);
    if (lane % kLanes == 0) shared.sums[(buffer * kHeadWarps + warp) * kHeadBatch + of_batch + lane / kLanes] = sum;
    if (of_batch + kRows < kHeadBatch && row + kRows < range.count) continue;
    __syncwarp();
    if (lane == 0) barrier_arrive(shared.done + buffer);
  }
}

/// Logits, a row in each lane, and the facts of their slices as inspect_logits has them.
template <int kCells>
__device__ __forceinline__ void head_results(const HeadParams& p, const HeadShared& shared, const HeadRange& range, int lane) {
  constexpr int kSlice = HeadShape<kCells>::kSlice;
#pragma unroll 1
  for (int batch = 0; batch * kHeadBatch < range.count; ++batch) {
    const int row = batch * kHeadBatch + lane, id = range.first + row, buffer = batch % kHeadBuffers;
    const bool is_row = row < range.count;
    const float bias = is_row && p.bias != nullptr ? __half2float(__ldg(p.bias + id)) : 0.f;
    barrier_wait(shared.done + buffer, batch / kHeadBuffers & 1);
    float logit = 0.f;
#pragma unroll
    for (int w = 0; w < kHeadWarps; ++w) logit += shared.sums[(buffer * kHeadWarps + w) * kHeadBatch + lane];
    __syncwarp();
    if (lane == 0) barrier_arrive(shared.taken + buffer);
    logit += bias;
    if (is_row) p.logits[id] = logit;
    else logit = -INFINITY;
    float highest = -INFINITY;
    int highest_id = INT32_MAX, bad = !(logit < INFINITY) ? id : INT32_MAX;
    if (logit > -INFINITY) highest = logit, highest_id = id;
#pragma unroll
    for (int step = kSlice / 2; step > 0; step /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, highest, step);
      const int other_id = __shfl_xor_sync(0xffffffffu, highest_id, step);
      if (other > highest || (other == highest && other_id < highest_id)) highest = other, highest_id = other_id;
      bad = min(bad, __shfl_xor_sync(0xffffffffu, bad, step));
    }
    float sum = highest > -INFINITY ? expf(logit - highest) : 0.f;
#pragma unroll
    for (int step = kSlice / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (is_row && lane % kSlice == 0) p.slices[id / kSlice] = {highest, sum, highest_id, bad};
  }
}

template <int kCells>
__device__ __forceinline__ void linear_head_body(const HeadParams& p, uint8_t* dynamic_shared) {
  const HeadShared shared(dynamic_shared, p.k);
  const HeadRange range(p.n, HeadShape<kCells>::kSlice);
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / kWarp, 0), lane = threadIdx.x % kWarp;
  allow_next();
  if (threadIdx.x == kHeadThreads) {
    const int multiply = min(kHeadWarps, (p.k / 8 + kWarp - 1) / kWarp);  // warps that have a part of k
    for (int s = 0; s < p.stages; ++s) {
      barrier_init(shared.full + s, 1);
      barrier_init(shared.empty + s, multiply);
    }
    for (int b = 0; b < kHeadBuffers; ++b) {
      barrier_init(shared.done + b, multiply);
      barrier_init(shared.taken + b, 1);
    }
    barrier_init_done();
  }
  // Warps that have no part of k add nothing.
  for (int i = threadIdx.x; i < kHeadSumBytes / 4; i += kHeadBlock) shared.sums[i] = 0.f;
  __syncthreads();
  if (warp < kHeadWarps) {
    head_norm(p, shared, warp, lane);
    head_products<kCells>(p, shared, range, warp, lane);
  } else if (warp == kHeadWarps) {
    if (lane == 0) head_copies<HeadShape<kCells>::kRows>(p, shared, range);
  } else {
    wait_previous();  // who writes logits and slices may not be ahead of who has read them
    head_results<kCells>(p, shared, range, lane);
  }
}

#endif  // EXLLAMA_WGMMA

}  // namespace exllama

// The most k. Grid, stages and dynamic shared memory by headLaunch().
#ifdef EXLLAMA_WGMMA
#define EXLLAMA_HEAD_BODY(CELLS)                    \
  extern __shared__ __align__(128) uint8_t dynamic_shared[]; \
  exllama::linear_head_body<CELLS>(p, dynamic_shared);
#define EXLLAMA_HEAD(NAME, CELLS)                                                                                             \
  extern "C" __global__ void __launch_bounds__(exllama::kHeadBlock, 1) NAME(const __grid_constant__ exllama::HeadParams p) { \
    EXLLAMA_HEAD_BODY(CELLS)                                                                                                  \
  }
EXLLAMA_HEAD(linear_head_k2048, 1)
EXLLAMA_HEAD(linear_head_k4096, 2)
EXLLAMA_HEAD(linear_head_k6144, 3)
EXLLAMA_HEAD(linear_head_k8192, 4)

#endif  // EXLLAMA_WGMMA
