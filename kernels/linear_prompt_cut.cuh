// Where linear_prompt.cu cuts k: how the blocks of a cluster hand each other their sums of a tile, add them and store their shares.
#pragma once

#include "clusters.cuh"
#include "linear_prompt_results.cuh"

#ifdef EXLLAMA_WGMMA

namespace exllama {

__device__ __forceinline__ void store_shared_four(uint32_t to, const float* four) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(four[0]), "f"(four[1]), "f"(four[2]), "f"(four[3]) : "memory");
}

/// Each block of a cluster hands every other its sums of what that one finishes: in its ring, which products have read to the end and
/// copies do not fill again. Its own go there as well, so that nobody needs sums in registers afterwards.
template <int kN>
__device__ __forceinline__ void hand_parts(const PromptLinear& p, int token0, uint32_t ring, uint32_t barrier, int thread, const float (&sum)[kN / 2]) {
  using Tile = PromptTile<kN>;
  const int rank = prompt_rank(p), per_piece = p.form == 0 ? 2 : 1;
  meet_cluster();  // the others' rings are free, too
#pragma unroll 1
  for (int i = 0; i < p.cut; ++i) {
    const int to = rank + i < p.cut ? rank + i : rank + i - p.cut;
    const PromptShare share = PromptShare::of<kN>(p, token0, to);
    const int first = share.first * per_piece, count = (share.end - share.first) * per_piece;
    const uint32_t own = ring + rank * count * Tile::kHandedBytes + thread * 16;
    const uint32_t at = cluster_address(own, to), arrived = cluster_address(barrier, to);
    if (i == 0 && thread == 0) barrier_expect(barrier, (p.cut - 1) * count * Tile::kHandedBytes);
#pragma unroll
    for (int handed = 0; handed < kN / Tile::kHanded; ++handed) {
      if (unsigned(handed - first) >= unsigned(count)) continue;
#pragma unroll
      for (int j = 0; j < Tile::kHanded / 8; ++j) {
        const int offset = (handed - first) * Tile::kHandedBytes + j * (256 * 16);
        const float* four = sum + (handed * (Tile::kHanded / 8) + j) * 4;
        if (i == 0) store_shared_four(own + offset, four);
        else store_cluster(at + offset, four, arrived);
      }
    }
  }
  wait_handed(barrier);
}

__device__ __forceinline__ float4 load_shared_four(uint32_t from) {
  float4 v;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(from) : "memory");
  return v;
}

/// A thread's part of what all blocks of the cluster have handed this one of kHanded tokens, added in the order of k.
template <int kN>
__device__ __forceinline__ void add_parts(uint32_t at, int cut, int part_bytes, float* sum) {
  using Tile = PromptTile<kN>;
#pragma unroll
  for (int e = 0; e < Tile::kHanded / 2; ++e) sum[e] = 0.f;
#pragma unroll 1
  for (int from = 0; from < cut; ++from, at += part_bytes)
#pragma unroll
    for (int j = 0; j < Tile::kHanded / 8; ++j) {
      const float4 four = load_shared_four(at + j * (256 * 16));
      sum[4 * j] += four.x, sum[4 * j + 1] += four.y, sum[4 * j + 2] += four.z, sum[4 * j + 3] += four.w;
    }
}

/// The same as store_prompt, of the pieces that this block finishes.
template <int kN>
__device__ __forceinline__ void store_parts(const TensorPromptParams& params, int tile, uint32_t ring, PromptStaging<kN>& staging, int thread) {
  using Tile = PromptTile<kN>;
  const PromptLinear& p = params.linear;
  const PromptPlace place = PromptPlace::of<kN>(p, tile);
  const int output0 = place.row0 + kPromptOutputs / 2 * staging.group;
  const float2 bias = bias_of_rows(p, place.linear, output0 + 16 * staging.warp + staging.lane / 4);
  const void* map = &params.y_map[place.linear];
  const PromptShare share = PromptShare::of<kN>(p, place.token0, prompt_rank(p));
  const int part_bytes = (share.end - share.first) * (p.form == 0 ? 2 : 1) * Tile::kHandedBytes;
  uint32_t at = ring + thread * 16;
  if (p.form == 0) {
#pragma unroll 1
    for (int piece = share.first; piece < share.end; ++piece) {
      uint32_t pairs[Tile::kPiece / 4];
#pragma unroll
      for (int half = 0; half < 2; ++half, at += Tile::kHandedBytes) {
        float sum[Tile::kHanded / 2];
        add_parts<kN>(at, p.cut, part_bytes, sum);
#pragma unroll
        for (int i = 0; i < Tile::kHanded / 4; ++i)
          pairs[half * (Tile::kHanded / 4) + i] = half_pair(sum[2 * i] + (i % 2 ? bias.y : bias.x), sum[2 * i + 1] + (i % 2 ? bias.y : bias.x));
      }
      staging.store_f16(map, output0, place.token0 + piece * Tile::kPiece, pairs);
    }
  } else {
#pragma unroll 1
    for (int piece = share.first; piece < share.end; ++piece, at += Tile::kHandedBytes) {
      float sum[Tile::kHanded / 2];
      add_parts<kN>(at, p.cut, part_bytes, sum);
      staging.store_f32(map, output0, place.token0 + piece * Tile::kHanded, sum, bias, p.form == 2);
    }
  }
}

}  // namespace exllama

#endif  // EXLLAMA_WGMMA
