// What every attention kernel takes, and how the parts of a decode step's attention are cut and merged.
#pragma once

#include "common.cuh"

namespace exllama {

struct AttentionParams {
  const __half* q;          // [m, heads, dim]
  const void* k_cache;      // kv_cells.cuh
  const void* v_cache;
  __half* y;                // [m, heads, dim]
  float* partial;           // decode: (dim + 2) numbers for each of [m, heads, splits]
  const int32_t* positions; // [m]; -1: an idle row
  const int32_t* sequence;  // [m] row of the page table
  const int32_t* pages;     // [sequences, max_pages]
  const int2* tiles;        // prefill: first row and rows (<= 64) of each tile, all of one sequence
  int32_t heads, kv_heads, dim, max_pages;
  int32_t window;           // 0: none
  int32_t splits;
  float scale;              // log2(e) / sqrt(dim)
  int32_t unused;
};
static_assert(sizeof(AttentionParams) == 104);

/// First token of the page that holds `key` in an f16 cache, in elements.
__device__ __forceinline__ size_t page_base(const AttentionParams& p, const int32_t* pages, int key, int kv_head) {
  return ((size_t(pages[key / kPageTokens]) * p.kv_heads + kv_head) * kPageTokens + key % kPageTokens) * p.dim;
}

/// How one token's keys are cut into at most p.splits parts.
struct Split {
  int first, each, parts;

  __device__ __forceinline__ Split(const AttentionParams& p, int position) {
    first = p.window == 0 ? 0 : max(0, position + 1 - p.window) / 32 * 32;  // what is read at once lies in one page
    const int keys = position + 1 - first;
    each = ((keys + p.splits - 1) / p.splits + 63) / 64 * 64;
    parts = (keys + each - 1) / each;
  }
};

/// 2^x, 0 for -infinity.
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Whether this block is the last of `parts` to come here; what the others wrote before is visible then.
/// The counter is zero before and after. `scratch` is shared memory that nobody needs any more.
__device__ __forceinline__ bool is_last(uint32_t* counter, int parts, uint32_t* scratch) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) *scratch = atomicInc(counter, parts - 1);
  __syncthreads();
  __threadfence();
  return *scratch == parts - 1;
}

/// Parts of one token: sums [rows][splits][dim] f32, then (maximum, total) [rows][splits].
struct Parts {
  float* sums;
  float2* facts;

  __device__ __forceinline__ Parts(const AttentionParams& p, int tokens, size_t head) {
    sums = p.partial + head * p.splits * p.dim;
    facts = reinterpret_cast<float2*>(p.partial + size_t(tokens) * p.heads * p.splits * p.dim) + head * p.splits;
  }
};

__device__ __forceinline__ void store_four(__half* y, const float4& v, bool there) {
  const __half2 pairs[2] = {__floats2half2_rn(v.x, v.y), __floats2half2_rn(v.z, v.w)};
  if (there) *reinterpret_cast<uint2*>(y) = *reinterpret_cast<const uint2*>(pairs);
}

/// Four neighbouring dims of the output, as they are.
struct AsGathered {
  __device__ __forceinline__ void operator()(float4&, int) const {}
};

/// Sums the parts of `rows` heads in their order, whichever block does it. `turn` sees four dims of a row per thread, rows
/// one after the other, warps complete.
template <int kThreads, typename Turn = AsGathered>
__device__ __forceinline__ void merge_parts(const AttentionParams& p, const Parts& from, __half* y, int rows, int parts, float2* facts, Turn turn = {}) {
  for (int i = threadIdx.x; i < rows * parts; i += kThreads) facts[i] = __ldcg(from.facts + i / parts * p.splits + i % parts);
  __syncthreads();
  const int cells = p.dim / 4, count = rows * cells;
  for (int first = threadIdx.x / kWarp * kWarp; first < count; first += kThreads) {
    const int wanted = first + threadIdx.x % kWarp, i = min(wanted, count - 1), r = i / cells;
    const float4* sums = reinterpret_cast<const float4*>(from.sums + size_t(r) * p.splits * p.dim) + i % cells;
    const float2* of_row = facts + r * parts;
    float best = -INFINITY, total = 0.f;
    for (int s = 0; s < parts; ++s) best = fmaxf(best, of_row[s].x);
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 8
    for (int s = 0; s < parts; ++s) {
      const float4 part = __ldcg(sums + s * cells);
      const float share = power_of_two(of_row[s].x - best);
      total += share * of_row[s].y;
      sum.x += share * part.x, sum.y += share * part.y, sum.z += share * part.z, sum.w += share * part.w;
    }
    sum.x /= total, sum.y /= total, sum.z /= total, sum.w /= total;
    turn(sum, p.dim);
    store_four(y + 4 * wanted, sum, wanted < count);
  }
}

}  // namespace exllama
