// The products of linear_batch_wgmma.cu and linear_batch_cluster.cu: of warps, for few tokens, and of warpgroups.
#pragma once

#include "linear_batch_wgmma.cuh"

#ifdef EXLLAMA_WGMMA

namespace exllama {

/// A number that the compiler knows.
template <int kValue>
struct Index {
  static constexpr int value = kValue;
};

/// `step` for every half of a chunk of a slice, with its number.
template <typename Step>
__device__ __forceinline__ void each_half(const Step& step) {
  static_assert(2 * kSliceChunks == 8);
  step(Index<0>());
  step(Index<1>());
  step(Index<2>());
  step(Index<3>());
  step(Index<4>());
  step(Index<5>());
  step(Index<6>());
  step(Index<7>());
}

/// Adds the products of `slices` to `sum` by products of warps, for which x may stay in its own order: for up to 16 tokens, where those of
/// warpgroups take no less time than for 32. Column g of a product is token g / 2 + 4 (g % 2): so eight lanes read x from all banks.
template <int kGroup, int kN>
__device__ __forceinline__ void multiply_by_warps(BatchFlow<kGroup, kN>& flow, int slices, int ahead, float (&sum)[kN / 2]) {
  using Tile = BatchTile<kGroup, kN>;
  constexpr int kHalves = kGroup / 32, kColumns = kN / 8;
  constexpr int kChains = kHalves == 4 && kColumns == 1 ? 2 : 1;  // where one would wait for itself
  const int g = flow.lane / 4, token = g / 2 + g % 2 * 4;
  const uint32_t x_place = token * 128 + ((flow.lane % 4) ^ token) * 16;
#pragma unroll 1
  for (int left = slices; left > 0; --left) {
    flow.take();
    uint4 codes = flow.template codes<0>(), next;
    float dot[kChains][kColumns][4];
    float scale[2];
    GroupZeros zeros;
    const auto step = [&](auto index) {
      constexpr int i = decltype(index)::value, c = i / 2, h = i % kHalves;
      if constexpr (i % 2 == 0 && c + 1 < kSliceChunks) next = flow.template codes<c + 1>();
      if constexpr (h == 0) {
        uint32_t scales[2];
        uint2 packed;
        flow.template group<i / kHalves>(scales, packed);
        zeros = GroupZeros(packed, flow.lane);
        scale[0] = __half2float(__ushort_as_half(scales[0])), scale[1] = __half2float(__ushort_as_half(scales[1]));
      }
      if constexpr (h < kChains) {
#pragma unroll
        for (int n = 0; n < kColumns; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) dot[h][n][e] = 0.f;
      }
      if constexpr (i % 4 == 0) barrier_wait(flow.full(flow.x_slot), flow.x_parity);
      uint32_t a[2][4];
      zeros.take(i % 2 ? codes.z : codes.x, a[0]);
      zeros.take(i % 2 ? codes.w : codes.y, a[1]);
      const uint32_t x_at = flow.x_at(flow.x_slot) + c % 2 * (kN * 128) + (x_place ^ (i % 2 * 64));
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        uint32_t x[4];
        load_shared(x_at + n * 1024, x[0], x[1], x[2], x[3]);
        multiply(dot[h % kChains][n], a[0], x[0], x[1]);
        multiply(dot[h % kChains][n], a[1], x[2], x[3]);
      }
      if constexpr (i % 2 == 1) codes = next;
      if constexpr (h == kHalves - 1) {
#pragma unroll
        for (int n = 0; n < kColumns; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            float d = dot[0][n][e];
            if constexpr (kChains > 1) d += dot[1][n][e];
            sum[4 * n + e] += scale[e / 2] * d;
          }
      }
      if constexpr (i % 4 == 2) flow.pass_x(true);
      if constexpr (i % 4 == 3) {
        __syncwarp();
        if (flow.lane == 0) barrier_arrive(flow.empty(flow.x_slot));
        flow.advance_x();
      }
    };
    each_half(step);
    if (left + ahead > Tile::kSlots) flow.ask(flow.slot);
  }
}

/// Adds the products of `slices` to `sum`; `ahead` slices of the run follow. In the step of 32 k (a half of a chunk) the next
/// half is unpacked. Where there is room for sums of groups (`dot`), operands are code - zero, exact in fp16, and a group's fp32 sum is
/// scaled while the next one's products run; else operands are fp16(scale * (code - zero)).
template <int kGroup, int kN, bool kOrdered>
__device__ __forceinline__ void multiply_by_warpgroups(BatchFlow<kGroup, kN>& flow, int slices, int ahead,
                                                       float (&dot)[2][kN / 2], float (&sum)[kN / 2]) {
  using Tile = BatchTile<kGroup, kN>;
  constexpr int kHalves = kGroup / 32, kSteps = 2 * kSliceChunks;  // of a group, of a slice
  constexpr int kUnpacked = kN == 128 ? 4 : 2;                     // halves whose operands are in registers
  constexpr int kAhead = kN == 32 && !kOrdered ? 0 : 1;            // chunks whose codes are read ahead: as registers allow
  const QuadTurn quad(flow.lane);
  uint4 codes[1 + kAhead];
  uint32_t a[kUnpacked][2][4];
  float scale[2][2];
  GroupZeros zeros;
  PackedChunk<kGroup> packed;
  const auto unpack = [&](auto index) {
    constexpr int i = decltype(index)::value, c = i / 2, group = i / kHalves;
    auto& to = a[i % kUnpacked];
    if constexpr (Tile::kScaled) {
      if constexpr (i % kHalves == 0) {
        uint32_t scales[2];
        uint2 packed;
        flow.template group<group>(scales, packed);
        zeros = GroupZeros(packed, flow.lane);
        scale[group % 2][0] = __half2float(__ushort_as_half(scales[0])), scale[group % 2][1] = __half2float(__ushort_as_half(scales[1]));
      }
      if constexpr (kAhead == 0 && i % 2 == 0) codes[0] = flow.template codes<c>();
      uint32_t word[2] = {i % 2 ? codes[c % 2 * kAhead].z : codes[c % 2 * kAhead].x, i % 2 ? codes[c % 2 * kAhead].w : codes[c % 2 * kAhead].y};
      if constexpr (!kOrdered) quad.turn(word[0], word[1]);
      zeros.take(word[0], to[0]);
      zeros.take(word[1], to[1]);
    } else {
      if constexpr (i % 2 == 0) flow.template read<c>(packed);
      unpack_half<kGroup, kOrdered>(packed, i % 2, quad, flow.lane, to);
    }
  };
  const auto add_group = [&](int turn, float low, float high) {
#pragma unroll
    for (int j = 0; j < kN / 2; ++j) sum[j] += (j % 4 < 2 ? low : high) * dot[turn][j];
  };
  const auto begin_slice = [&] {
    flow.take();
    if constexpr (Tile::kScaled && kAhead == 1) codes[0] = flow.template codes<0>();
    unpack(Index<0>());
  };
  begin_slice();
#pragma unroll 1
  for (int left = slices; left > 0; --left) {
    const auto step = [&](auto index) {
      constexpr int i = decltype(index)::value, c = i / 2, turn = i / kHalves % 2;
      if constexpr (Tile::kScaled && kAhead == 1 && i % 2 == 0 && c + 1 < kSliceChunks) codes[(c + 1) % 2 * kAhead] = flow.template codes<c + 1>();
      if constexpr (i % 4 == 0) barrier_wait(flow.full(flow.x_slot), flow.x_parity);
      const uint64_t x = wgmma_operand(flow.x_at(flow.x_slot) + c % 2 * (kN * 128)) + i % 2 * 4;
      const auto& from = a[i % kUnpacked];
      wgmma_begin();
      if constexpr (!Tile::kScaled) wgmma_weights<kN>(sum, from[0], x);
      else if constexpr (i % kHalves == 0) wgmma_weights_first<kN>(dot[turn], from[0], x);
      else wgmma_weights<kN>(dot[turn], from[0], x);
      if constexpr (Tile::kScaled) wgmma_weights<kN>(dot[turn], from[1], x + 2);
      else wgmma_weights<kN>(sum, from[1], x + 2);
      wgmma_commit();
      wgmma_wait<kUnpacked / 2>();
      if constexpr (Tile::kScaled && i % kHalves == 0 && i > 0) add_group(turn ^ 1, scale[turn ^ 1][0], scale[turn ^ 1][1]);
      if constexpr (i % 4 == (kUnpacked - 2) / 2) flow.pass_x(i < 4 && left == slices);
      if constexpr (i % 4 == 3) flow.advance_x();
      if constexpr (i + 1 < kSteps) unpack(Index<i + 1>());
    };
    each_half(step);
    const float low = scale[1][0], high = scale[1][1];
    __syncwarp();  // all have read this slice
    if (left + ahead > Tile::kSlots) flow.ask(flow.slot);
    if (left > 1) begin_slice();
    if constexpr (Tile::kScaled) {
      wgmma_wait<0>();
      wgmma_results(dot[1]);
      add_group(1, low, high);
    }
  }
  if constexpr (!Tile::kScaled) {
    wgmma_wait<0>();
    wgmma_results(sum);
  }
}

}  // namespace exllama

#endif  // EXLLAMA_WGMMA
