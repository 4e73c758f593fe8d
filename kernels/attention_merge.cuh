// How the parts of a decode step's attention are cut and merged: warps of a block through its shared memory, blocks of a
// cluster through each other's, clusters through global memory, where the last to come adds them up. Always in the same
// order: the only atomics are integer counters.
#pragma once

#include "attention.cuh"
#include "cluster.cuh"

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
  float* partial;            // (dim + 2) numbers for each of [m, heads, clusters]
  const int32_t* positions;  // [m]; -1: an idle row
  const int32_t* pages;      // [m, max_pages]
  int32_t heads, kv_heads, group;  // heads / kv_heads
  int32_t dim, max_pages;
  int32_t window;            // 0: none
  int32_t splits;            // blocks that share a token's keys, whole clusters
  int32_t least;             // keys of a part at least, a multiple of 64
  float scale;               // log2(e) / sqrt(dim)
  float eps;
};
static_assert(sizeof(AttentionStepParams) == 136);

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

constexpr int kMostParts = 32;       // clusters' of a token
constexpr int kMostClusterParts = 8;
constexpr int kMergeBytes = 16 * kMostParts * 8 + 16;

/// Sums of each warp of a block for 16 rows of heads, in shared memory: [warp][row]: sums [dim], then (maximum, total) of the warp,
/// and with warp 0's those of the block.
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

template <typename Turn>
__device__ __forceinline__ void store_result(Gathered& all, __half* y, int dim, bool there) {
  Turn()(all.sum, dim);
  if (there) *reinterpret_cast<uint2*>(y) = all.halves();
}

/// From the sums of a block's warps to the result of `rows` heads from head0 on, by whichever block comes last. `Turn` sees four dims of a row per
/// thread, rows one after the other, warps complete.
template <typename Turn, typename Sums>
__device__ __forceinline__ void merge_block(const AttentionStepParams& p, const Sums& sums, int parts, int row, int head0, int rows) {
  constexpr int kThreads = Sums::kCount * kWarp, kFacts = Sums::kDims;
  const int dim = p.dim;
  __half* y = p.y + (size_t(row) * p.heads + head0) * dim;
  for_each_four<Sums::kCount>(rows, dim, [&](int r, int d, bool there) {
    Gathered all;
#pragma unroll
    for (int w = 0; w < Sums::kCount; ++w) all.best = fmaxf(all.best, sums.of(w, r)[kFacts]);
#pragma unroll
    for (int w = 0; w < Sums::kCount; ++w) {
      const float share = power_of_two(sums.of(w, r)[kFacts] - all.best);
      all.add(*reinterpret_cast<const float4*>(sums.of(w, r) + d), share);
      all.total += share * sums.of(w, r)[kFacts + 1];
    }
    if (parts == 1) {
      store_result<Turn>(all, y + r * dim + d, dim, there);
    } else if (there) {  // nobody else needs these dims of warp 0
      *reinterpret_cast<float4*>(sums.of(0, r) + d) = all.sum;
      if (d == 0) *reinterpret_cast<float2*>(sums.of(0, r) + kFacts + 2) = make_float2(all.best, all.total);
    }
  });
  if (parts == 1) return;

  const int size = cluster_size(), cluster = blockIdx.x / size, rank = blockIdx.x % size;
  const int together = min(size, parts - cluster * size), clusters = (parts + size - 1) / size, pitch = p.splits / size;
  if (together > 1) {
    cluster_arrive();
    cluster_wait();
  } else {
    __syncthreads();
  }
  float* to_sums = p.partial + ((size_t(row) * p.heads + head0) * pitch + cluster) * dim;
  float2* to_facts = reinterpret_cast<float2*>(p.partial + size_t(gridDim.z) * p.heads * pitch * dim) + (size_t(row) * p.heads + head0) * pitch + cluster;
  if (rank == 0) {
    for_each_four<Sums::kCount>(rows, dim, [&](int r, int d, bool there) {
      float4 part[kMostClusterParts], facts[kMostClusterParts];
      Gathered all;
#pragma unroll
      for (int s = 0; s < kMostClusterParts; ++s)
        if (s < together) {
          part[s] = load_of_block(reinterpret_cast<const float4*>(sums.of(0, r) + d), s);
          facts[s] = load_of_block(reinterpret_cast<const float4*>(sums.of(0, r) + kFacts), s);
        }
#pragma unroll
      for (int s = 0; s < kMostClusterParts; ++s)
        if (s < together) all.best = fmaxf(all.best, facts[s].z);
#pragma unroll
      for (int s = 0; s < kMostClusterParts; ++s)
        if (s < together) {
          const float share = power_of_two(facts[s].z - all.best);
          all.add(part[s], share);
          all.total += share * facts[s].w;
        }
      if (clusters == 1) {
        store_result<Turn>(all, y + r * dim + d, dim, there);
      } else if (there) {
        *reinterpret_cast<float4*>(to_sums + size_t(r) * pitch * dim + d) = all.sum;
        if (d == 0) to_facts[r * pitch] = make_float2(all.best, all.total);
      }
    });
  }
  if (together > 1) {  // until the first block has read them all
    cluster_arrive();
    cluster_wait();
  }
  if (rank != 0 || clusters == 1) return;

  uint32_t* scratch = reinterpret_cast<uint32_t*>(sums.at);
  uint32_t* counter = reinterpret_cast<uint32_t*>(p.partial) - 1 - (row * gridDim.y + blockIdx.y);
  if (!is_last(counter, clusters, scratch)) return;
  const float* from_sums = to_sums - size_t(cluster) * dim;
  const float2* from_facts = to_facts - cluster;
  float2* facts = reinterpret_cast<float2*>(sums.at) + 2;
  for (int i = threadIdx.x; i < rows * clusters; i += kThreads) facts[i] = __ldcg(from_facts + i / clusters * pitch + i % clusters);
  __syncthreads();
  for_each_four<Sums::kCount>(rows, dim, [&](int r, int d, bool there) {
    const float4* from = reinterpret_cast<const float4*>(from_sums + size_t(r) * pitch * dim + d);
    const float2* of_row = facts + r * clusters;
    Gathered all;
    for (int s = 0; s < clusters; ++s) all.best = fmaxf(all.best, of_row[s].x);
#pragma unroll 4
    for (int s = 0; s < clusters; ++s) {
      const float4 part = __ldcg(from + s * (dim / 4));
      const float share = power_of_two(of_row[s].x - all.best);
      all.total += share * of_row[s].y;
      all.add(part, share);
    }
    store_result<Turn>(all, y + r * dim + d, dim, there);
  });
}

}  // namespace exllama
