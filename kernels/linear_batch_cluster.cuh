// How blocks of a cluster finish a unit that they have shared out by k: for linear_batch_cluster.cu.
#pragma once

#include "clusters.cuh"
#include "linear_batch_finish.cuh"

#ifdef EXLLAMA_WGMMA

namespace exllama {

constexpr int kMostCluster = 8;  // blocks: more of them need leave to

__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t v;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(v));
  return v;
}
__device__ __forceinline__ uint32_t cluster_blocks() {
  uint32_t v;
  asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(v));
  return v;
}
__device__ __forceinline__ uint32_t cluster_number() {
  uint32_t v;
  asm("mov.u32 %0, %%clusterid.x;" : "=r"(v));
  return v;
}
/// Orders nothing.
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }
/// What has been written to one's own block's shared memory is there for all blocks of the cluster behind cluster_wait(). Of nothing else: a
/// release of everything waits for device memory.
__device__ __forceinline__ void cluster_arrive_shared() {
  asm volatile("fence.release.sync_restrict::shared::cta.cluster;" ::: "memory");
  cluster_arrive();
}
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

__device__ __forceinline__ void load_cluster(uint32_t from, float (&v)[4]) {
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3]) : "r"(from) : "memory");
}

/// Leaves a warp's piece in its block's shared memory, and makes results of a share of all that the cluster has left. A cell is eight tokens of a row
/// tile: in a lane sums of row g and tokens 2 t, 2 t + 1, then of row g + 8 (g = lane / 4, t = lane % 4).
template <int kGroup, int kN>
struct ClusterFinish {
  using Tile = BatchTile<kGroup, kN>;
  static constexpr int kCellBytes = kWarp * 16, kPieceBytes = kN / 8 * kCellBytes;
  static_assert(!Tile::kByWarps && kPieceBytes <= Tile::kSlots * Tile::kSliceBytes);
  const BatchLinear& p;
  uint32_t base;
  int warp, lane;

  /// Where a warp's slices of weights were, which it has read.
  __device__ __forceinline__ uint32_t piece(int of_warp) const {
    return base + Tile::kWeightsAt + of_warp * (Tile::kSlots * Tile::kSliceBytes) + lane * 16;
  }

  __device__ __forceinline__ void leave_piece(const float (&sum)[kN / 2]) const {
    const uint32_t to = piece(warp);
#pragma unroll
    for (int j = 0; j < kN / 8; ++j)
      asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to + j * kCellBytes), "f"(sum[4 * j]), "f"(sum[4 * j + 1]), "f"(sum[4 * j + 2]),
                   "f"(sum[4 * j + 3])
                   : "memory");
  }

  /// The sum of a cell over all blocks, in the order of k.
  __device__ __forceinline__ void add_cell(uint32_t cell, uint32_t blocks, float (&sum)[4]) const {
    float v[kMostCluster][4];
#pragma unroll
    for (int b = 0; b < kMostCluster; ++b) {
#pragma unroll
      for (int e = 0; e < 4; ++e) v[b][e] = 0.f;
      if (b < blocks) load_cluster(cluster_address(cell, b), v[b]);
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) sum[e] = v[0][e];
#pragma unroll
    for (int b = 1; b < kMostCluster; ++b)
      if (b < blocks)
#pragma unroll
        for (int e = 0; e < 4; ++e) sum[e] += v[b][e];
  }

  /// @param rank of the block: its k come in that order
  __device__ __forceinline__ void share(int unit, uint32_t rank, uint32_t blocks) const {
    const int tiles = p.silu ? kBatchWarps / 2 : kBatchWarps, tile = warp % tiles, ways = kBatchWarps / tiles;
    const BatchPlace place(p, unit, tile);
    const int outputs = of_linear(place.linear, p.n0, p.n1, p.n2), n = place.row + lane / 4;
    const bool there[2] = {n < outputs, n + 8 < outputs};
    if (place.row >= outputs) return;  // also up's: as many as gate's
    const __half *bias = of_linear(place.linear, p.bias0, p.bias1, p.bias2), *up_bias = p.silu ? p.bias1 : nullptr;
    float b[2] = {0.f, 0.f}, up_b[2] = {0.f, 0.f};
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (bias != nullptr && there[h]) b[h] = __half2float(__ldg(bias + n + 8 * h));
      if (up_bias != nullptr && there[h]) up_b[h] = __half2float(__ldg(up_bias + n + 8 * h));
    }
    const int fours = (p.m + 7) / 8;
#pragma unroll 1
    for (int j = rank * ways + warp / tiles; j < fours; j += blocks * ways) {
      float sum[4];
      add_cell(piece(tile) + j * kCellBytes, blocks, sum);
#pragma unroll
      for (int e = 0; e < 4; ++e) sum[e] += b[e / 2];
      if (p.silu) {
        float up[4];
        add_cell(piece(tile + tiles) + j * kCellBytes, blocks, up);
#pragma unroll
        for (int e = 0; e < 4; ++e) sum[e] = gated(sum[e], up[e] + up_b[e / 2]);
      }
      if (p.residual != nullptr) add_to_residual(j, n, there, sum);
      else write(place.linear, j, n, outputs, there, sum);
    }
  }

 private:
  __device__ __forceinline__ void add_to_residual(int j, int n, const bool (&there)[2], const float (&sum)[4]) const {
    const int token = 8 * j + lane % 4 * 2;
    float* to = p.residual + size_t(token) * p.n0 + n;
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (token + e % 2 < p.m && there[e / 2]) add_to(to + e % 2 * p.n0 + e / 2 * 8, sum[e]);
  }

  /// Lanes of even and odd g exchange, so that each has two neighbouring outputs of one of the tokens.
  __device__ __forceinline__ void write(int linear, int j, int n, int outputs, const bool (&there)[2], const float (&sum)[4]) const {
    const bool odd = lane / 4 % 2;
    const int token = 8 * j + lane % 4 * 2 + odd, even = n - odd;
    __half* y = of_linear(linear, p.y0, p.y1, p.y2) + size_t(token) * outputs;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float mine[2] = {sum[2 * h], sum[2 * h + 1]};
      const float other = __shfl_xor_sync(0xffffffffu, odd ? mine[0] : mine[1], 4);
      const int at = even + 8 * h;
      if (token < p.m && there[h])
        *reinterpret_cast<__half2*>(y + (p.ordered ? code_order(at) : at)) = odd ? __floats2half2_rn(other, mine[1]) : __floats2half2_rn(mine[0], other);
    }
  }
};

}  // namespace exllama

#endif  // EXLLAMA_WGMMA
