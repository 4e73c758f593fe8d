// How the sums of a tile of linear_prompt.cu become results: biases, silu, and the way through shared memory to where they belong.
#pragma once

#include "linear_prompt_tiles.cuh"

#ifdef EXLLAMA_WGMMA

namespace exllama {

/// The 128 threads of a computing warpgroup (0 or 1), or both.
__device__ __forceinline__ void meet_group(int group) {
  if (group == 0) asm volatile("bar.sync 1, 128;" ::: "memory");
  else asm volatile("bar.sync 2, 128;" ::: "memory");
}
__device__ __forceinline__ void meet_both() { asm volatile("bar.sync 3, 256;" ::: "memory"); }

/// How a warpgroup's results leave it: two pieces of shared memory in turn.
template <int kN>
struct PromptStaging {
  using Tile = PromptTile<kN>;
  uint32_t pieces;
  int group, warp, lane;  // warp of the group
  uint32_t turn = 0;

  __device__ __forceinline__ bool issues() const { return warp == 0 && lane == 0; }

  /// A piece that nothing reads any more, all threads of the group meeting.
  __device__ __forceinline__ uint32_t take() {
    if (issues()) store_wait_read<1>();
    meet_group(group);
    const uint32_t piece = pieces + turn * Tile::kPieceBytes;
    turn ^= 1;
    return piece;
  }
  __device__ __forceinline__ void filled() {
    publish_shared();
    meet_group(group);
  }

  /// f16: kPiece tokens of 64 outputs, kPiece / 4 pairs of a thread.
  __device__ __forceinline__ void store_f16(const void* map, int output0, int token0, const uint32_t* pairs) {
    const uint32_t piece = take();
    const int row = lane % 8 + lane / 16 * 8, cell = 2 * warp + lane / 8 % 2;
#pragma unroll
    for (int i = 0; i < Tile::kPiece / 16; ++i) {
      uint32_t r[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) r[e] = pairs[4 * i + e];
      store_matrix_x4_transposed(piece + (16 * i + row) * 128 + ((cell ^ (row & 7)) << 4), r);
    }
    filled();
    if (issues()) {
      store_box(map, output0, token0, piece);
      store_commit();
    }
  }

  /// f32: kPiece / 2 tokens.
  __device__ __forceinline__ void store_f32(const void* map, int output0, int token0, const float* sum, float2 bias, bool add) {
    constexpr int kTokens = Tile::kPiece / 2;
    const uint32_t piece = take();
    const int g = lane / 4, t = lane % 4, cell = warp % 2 * 4 + g / 4;
    const uint32_t to = piece + warp / 2 * (kTokens * 128) + g % 4 * 4;
#pragma unroll
    for (int j = 0; j < kTokens / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = 2 * t + e % 2;
        const float v = sum[4 * j + e] + (e < 2 ? bias.x : bias.y);
        asm volatile("st.shared.f32 [%0], %1;" ::"r"(to + (8 * j + row) * 128 + (((cell + e / 2 * 2) ^ row) << 4)), "f"(v) : "memory");
      }
    filled();
    if (issues()) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t from = piece + half * (kTokens * 128);
        if (add) add_box(map, output0 + 32 * half, token0, from);
        else store_box(map, output0 + 32 * half, token0, from);
      }
      store_commit();
    }
  }

  template <int kFirst>
  __device__ __forceinline__ void all_f32(const void* map, int output0, int token0, const float (&sum)[kN / 2], float2 bias, bool add) {
    if constexpr (kFirst < kN) {
      store_f32(map, output0, token0 + kFirst, sum + kFirst / 2, bias, add);
      all_f32<kFirst + Tile::kPiece / 2>(map, output0, token0, sum, bias, add);
    }
  }
  template <int kFirst, int kEnd>
  __device__ __forceinline__ void all_f16(const void* map, int output0, int token0, const uint32_t (&pairs)[kN / 4]) {
    if constexpr (kFirst < kEnd) {
      store_f16(map, output0, token0 + kFirst, pairs + kFirst / 4);
      all_f16<kFirst + Tile::kPiece, kEnd>(map, output0, token0, pairs);
    }
  }
};

__device__ __forceinline__ uint32_t half_pair(float a, float b) {
  const __half2 pair = __floats2half2_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

/// silu(gate) * up of two tokens, the operands rounded to fp16 as they would be in memory.
__device__ __forceinline__ uint32_t gated_pair(uint32_t gates, uint32_t ups) {
  const float2 a = __half22float2(*reinterpret_cast<const __half2*>(&gates)), b = __half22float2(*reinterpret_cast<const __half2*>(&ups));
  return half_pair(__fdividef(a.x, 1.f + __expf(-a.x)) * b.x, __fdividef(a.y, 1.f + __expf(-a.y)) * b.y);
}

/// Both warpgroups have the same tokens and rows, one of gate and one of up: each finishes the tokens of its own range and
/// hands over its rows of the other one's, in its own staging for as long as they meet.
template <int kFirst, int kEnd, int kSendFirst, int kSendEnd, bool kGate, int kN>
__device__ __forceinline__ void store_gated(PromptStaging<kN>& staging, const void* map, int output0, int token0, uint32_t (&pairs)[kN / 4]) {
  static_assert((kSendEnd - kSendFirst) * 128 <= 2 * PromptTile<kN>::kPieceBytes && (kEnd - kFirst) % 16 == 0 && (kSendEnd - kSendFirst) % 16 == 0);
  const uint32_t own_words = staging.pieces + (staging.warp * kWarp + staging.lane) * 16;
  const uint32_t other_words = kGate ? own_words + 2 * PromptTile<kN>::kPieceBytes : own_words - 2 * PromptTile<kN>::kPieceBytes;
  if (staging.issues()) store_wait_read<0>();
  meet_group(staging.group);
#pragma unroll
  for (int i = 0; i < (kSendEnd - kSendFirst) / 16; ++i) {
    const uint32_t* four = pairs + kSendFirst / 4 + 4 * i;
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(own_words + i * 2048), "r"(four[0]), "r"(four[1]), "r"(four[2]), "r"(four[3])
                 : "memory");
  }
  meet_both();
#pragma unroll
  for (int i = 0; i < (kEnd - kFirst) / 16; ++i) {
    uint32_t other[4];
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(other[0]), "=r"(other[1]), "=r"(other[2]), "=r"(other[3])
                 : "r"(other_words + i * 2048)
                 : "memory");
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      uint32_t& mine = pairs[kFirst / 4 + 4 * i + e];
      mine = kGate ? gated_pair(mine, other[e]) : gated_pair(other[e], mine);
    }
  }
  meet_both();
  staging.template all_f16<kFirst, kEnd>(map, output0, token0, pairs);
}

/// Of the rows that a thread has sums of, g and g + 8 from `row` on.
__device__ __forceinline__ float2 bias_of_rows(const PromptLinear& p, int linear, int row) {
  const __half* biases = of_linear(linear, p.bias0, p.bias1, p.bias2);
  const int n = of_linear(linear, p.n0, p.n1, p.n2);
  float2 bias = make_float2(0.f, 0.f);
  if (biases != nullptr) {
    if (row < n) bias.x = __half2float(__ldg(biases + row));
    if (row + 8 < n) bias.y = __half2float(__ldg(biases + row + 8));
  }
  return bias;
}

template <int kN>
__device__ __forceinline__ void store_prompt(const TensorPromptParams& params, int tile, PromptStaging<kN>& staging, const float (&sum)[kN / 2]) {
  const PromptLinear& p = params.linear;
  const PromptPlace place = PromptPlace::of<kN>(p, tile);
  const int output0 = place.row0 + (p.silu ? 0 : kPromptOutputs / 2 * staging.group);
  const float2 bias = bias_of_rows(p, p.silu ? staging.group : place.linear, output0 + 16 * staging.warp + staging.lane / 4);
  const void* map = &params.y_map[place.linear];
  if (p.form == 0) {
    uint32_t pairs[kN / 4];  // rows g, g + 8 of the first two tokens of eight, of the next two, ...
#pragma unroll
    for (int i = 0; i < kN / 4; ++i) {
      pairs[i] = half_pair(sum[2 * i] + (i % 2 ? bias.y : bias.x), sum[2 * i + 1] + (i % 2 ? bias.y : bias.x));
      asm volatile("" : "+r"(pairs[i]));  // here and now, so that sums need no registers any more
    }
    constexpr int kCut = (PromptTile<kN>::kPieces + 1) / 2 * PromptTile<kN>::kPiece;
    if (!p.silu) staging.template all_f16<0, kN>(map, output0, place.token0, pairs);
    else if (staging.group == 0) store_gated<0, kCut, kCut, kN, true>(staging, map, output0, place.token0, pairs);
    else store_gated<kCut, kN, 0, kCut, false>(staging, map, output0, place.token0, pairs);
  } else {
    staging.template all_f32<0>(map, output0, place.token0, sum, bias, p.form == 2);
  }
}

}  // namespace exllama

#endif  // EXLLAMA_WGMMA
