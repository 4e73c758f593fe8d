// How the parts of a decode step's attention are cut and merged: warps of a block through shared memory, blocks through global
// memory, where the last to come adds them up. Always in the order of the warps, then of the parts: the only atomics are
// integer counters, the bits never differ.
#pragma once

#include "attention.cuh"
#include "code_order.cuh"

namespace exllama {

struct AttentionStepParams {
  const __half* q;           // [m, heads, dim] as they come from their linear
  const __half* k;           // [m, kv_heads, dim]
  const __half* v;
  const __half* q_norm;      // [dim] or null
  const __half* k_norm;
  const float2* table;       // [m, dim / 2] cosines and sines
  void* k_cache;             // kv_cells.cuh
  void* v_cache;
  __half* y;                 // [m, heads, dim], may be q
  float* partial;            // (dim + 2) numbers for each of [m, heads, splits]; before it a counter for each of the grid's (y, z), zero
  const int32_t* positions;  // [m]; -1: an idle row
  const int32_t* pages;      // [m, max_pages]
  int32_t heads, kv_heads, group;  // heads / kv_heads
  int32_t dim, max_pages;
  int32_t window;            // 0: none
  int32_t splits;            // blocks that share a token's keys
  int32_t least;             // keys of a part at least, a multiple of 64
  float scale;               // log2(e) / sqrt(dim)
  float eps;
  int32_t ordered;           // y in the order of codes; dim % 32 == 0 then
  int32_t unused;
};
static_assert(sizeof(AttentionStepParams) == 144);

/// How one token's keys are cut into at most p.splits parts.
struct Split {
  int first, each, parts;

  __device__ __forceinline__ Split(const AttentionStepParams& p, int position) {
    first = p.window == 0 ? 0 : max(0, position + 1 - p.window) / 32 * 32;  // what is read at once lies in one page
    const int keys = position + 1 - first;
    each = max(p.least, ((keys + p.splits - 1) / p.splits + 63) / 64 * 64);
    parts = (keys + each - 1) / each;
  }
};

/// Sums of each warp of a block for 16 rows of heads, in shared memory: [warp][row] of sums [dim], maximum, total.
template <int kWarps, int kDim>
struct BlockSums {
  static constexpr int kCount = kWarps;
  static constexpr int kRow = kDim + 4;
  static constexpr int kDims = kDim;
  static constexpr int kBytes = kWarps * 16 * kRow * 4;

  float* at;

  __device__ __forceinline__ float* of(int warp, int row) const { return at + (warp * 16 + row) * kRow; }
};

/// Numerator, largest exponent and denominator of four neighbouring dims of a row.
struct Gathered {
  float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
  float best = -INFINITY, total = 0.f;

  __device__ __forceinline__ void add(const float4& part, float share) {
    sum.x += share * part.x, sum.y += share * part.y, sum.z += share * part.z, sum.w += share * part.w;
  }

  __device__ __forceinline__ void shrink(float by) { sum.x *= by, sum.y *= by, sum.z *= by, sum.w *= by, total *= by; }

  /// The result as f16.
  __device__ __forceinline__ uint2 halves() const {
    const float inverse = 1.f / total;
    const __half2 pairs[2] = {__floats2half2_rn(sum.x * inverse, sum.y * inverse), __floats2half2_rn(sum.z * inverse, sum.w * inverse)};
    return *reinterpret_cast<const uint2*>(pairs);
  }
};

/// Four neighbouring dims of the output, as they are.
struct AsGathered {
  __device__ __forceinline__ void operator()(float4&, int) const {}
};

/// Calls take(r, d, there) for every four dims d .. d + 3 of `rows` rows, a warp for a row; without `there` another lane has them too.
template <int kWarps, typename Take>
__device__ __forceinline__ void for_each_four(int rows, int dim, Take take) {
#pragma unroll 1
  for (int r = threadIdx.x / kWarp; r < rows; r += kWarps)
#pragma unroll 1
    for (int d = threadIdx.x % kWarp * 4; d - static_cast<int>(threadIdx.x % kWarp * 4) < dim; d += 4 * kWarp) take(r, min(d, dim - 4), d < dim);
}

/// What is written before is visible to other blocks before what is written behind it, and so with reading.
__device__ __forceinline__ void fence_blocks() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

/// Whether this block is the last of `parts` to come here; what the others wrote before is visible then.
/// The counter is zero before and after. `scratch` is shared memory that nobody needs any more.
__device__ __forceinline__ bool is_last(uint32_t* counter, int parts, uint32_t* scratch) {
  fence_blocks();
  __syncthreads();
  if (threadIdx.x == 0) *scratch = atomicInc(counter, parts - 1);
  __syncthreads();
  fence_blocks();
  return *scratch == parts - 1;
}

template <typename Turn>
__device__ __forceinline__ void store_result(const AttentionStepParams& p, Gathered& all, __half* y, int d, bool there) {
  Turn()(all.sum, p.dim);
  if (there) store_inputs(y, d, all.halves(), p.ordered);
}

/// From the sums of a block's warps to the result of `rows` heads from head0 on, by whichever block comes last. `Turn` sees
/// four neighbouring dims of a row per lane.
template <typename Turn, typename Sums>
__device__ __forceinline__ void merge_block(const AttentionStepParams& p, const Sums& sums, int parts, int row, int head0, int rows) {
  constexpr int kDims = Sums::kDims, kTogether = 8;
  const int dim = p.dim;
  const size_t head = size_t(row) * p.heads + head0;
  __half* y = p.y + head * dim;
  float* parted = p.partial + head * p.splits * dim;
  float2* facts = reinterpret_cast<float2*>(p.partial + size_t(gridDim.z) * p.heads * p.splits * dim) + head * p.splits;
  for_each_four<Sums::kCount>(rows, dim, [&](int r, int d, bool there) {
    Gathered all;
#pragma unroll
    for (int w = 0; w < Sums::kCount; ++w) all.best = fmaxf(all.best, sums.of(w, r)[kDims]);
#pragma unroll
    for (int w = 0; w < Sums::kCount; ++w) {
      const float share = power_of_two(sums.of(w, r)[kDims] - all.best);
      all.add(*reinterpret_cast<const float4*>(sums.of(w, r) + d), share);
      all.total += share * sums.of(w, r)[kDims + 1];
    }
    if (parts == 1) {
      store_result<Turn>(p, all, y + r * dim, d, there);
    } else if (there) {
      const int part = r * p.splits + blockIdx.x;
      __stcg(reinterpret_cast<float4*>(parted + size_t(part) * dim + d), all.sum);
      if (d == 0) __stcg(facts + part, make_float2(all.best, all.total));
    }
  });
  if (parts == 1) return;
  uint32_t* counter = reinterpret_cast<uint32_t*>(p.partial) - 1 - (row * gridDim.y + blockIdx.y);
  // What follows the sums in shared memory holds queries: nobody needs them any more.
  if (!is_last(counter, parts, reinterpret_cast<uint32_t*>(sums.at + Sums::kBytes / 4))) return;
  for_each_four<Sums::kCount>(rows, dim, [&](int r, int d, bool there) {
    Gathered all;
#pragma unroll 1
    for (int first = 0; first < parts; first += kTogether) {
      // All of them under way at once: their place does not depend on their maxima.
      float4 part[kTogether];
      float2 fact[kTogether];
#pragma unroll
      for (int s = 0; s < kTogether; ++s) {
        const int at = r * p.splits + first + s;
        const bool valid = first + s < parts;
        part[s] = valid ? __ldcg(reinterpret_cast<const float4*>(parted + size_t(at) * dim + d)) : make_float4(0.f, 0.f, 0.f, 0.f);
        fact[s] = valid ? __ldcg(facts + at) : make_float2(-INFINITY, 0.f);
      }
      float best = all.best;
#pragma unroll
      for (int s = 0; s < kTogether; ++s) best = fmaxf(best, fact[s].x);
      all.shrink(power_of_two(all.best - best));
      all.best = best;
#pragma unroll
      for (int s = 0; s < kTogether; ++s) {
        const float share = power_of_two(fact[s].x - best);
        all.add(part[s], share);
        all.total += share * fact[s].y;
      }
    }
    store_result<Turn>(p, all, y + r * dim, d, there);
  });
}

}  // namespace exllama
