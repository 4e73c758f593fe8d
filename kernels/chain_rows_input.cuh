// How x comes into a block's shared memory, a part at a time: from attention or, in packets, from all blocks.
#pragma once

#include "chain_rows.cuh"
#include "linear_chain_input.cuh"
#include "linear_chain_products.cuh"

namespace exllama {

/// Where a linear's x comes from: cells of eight k of a token.
struct RowsSource {
  const uint4* cells;      // packets [k / 8][kChainRows], or attention's output [m][k / 8]
  int stride, of_token;    // from a cell to the next one of its token, from a token to the next one: so both are looked at by the same loads, for
                           // a second kind would wait for the first
  int m;
  uint32_t uses;           // what packets are marked with
  bool in_packets;

  __device__ __forceinline__ const uint4* at(int cell, int token) const { return cells + cell * stride + token * of_token; }
};

/// A span of x, which is a warp's: a lane has the cells 4 b + lane / 8, of eight k each, of token lane % 8. On their way from take() on.
///
/// Layout  of a part: [chunks][high and low digits][tokens][four cells of 16 bytes], then [spans][tokens] of ChainSpan. A cell has eight k of each half of a
///         chunk, which is what a lane multiplies by; cells are exchanged by token / 2, so that eight lanes write to all banks, as they read.
struct RowsSpan {
  static constexpr int kCells = kSpan / 8 / 4;
  uint4 v[kCells];

  /// @param k inputs of the part, @param first its first, @param span which one of the part's; there may be none
  __device__ __forceinline__ void take(const RowsSource& x, int first, int k, int span, int lane) {
    const uint4* const from = place_of(x, first, span, lane);
#pragma unroll
    for (int b = 0; b < kCells; ++b) v[b] = make_uint4(0, 0, 0, 0);
    if (!has(x, k, span, lane)) return;
#pragma unroll
    for (int b = 0; b < kCells; ++b) v[b] = look(from + b * 4 * x.stride);
  }

  /// Looks once more for what was not there. @returns whether something was not
  __device__ __forceinline__ bool look_again(const RowsSource& x, int first, int k, int span, int lane) {
    const HalfPackets kind{x.uses};
    const uint4* const from = place_of(x, first, span, lane);
    bool any = false;
    if (!has(x, k, span, lane)) return false;
#pragma unroll
    for (int b = 0; b < kCells; ++b)
      if (!kind.is_there(v[b])) any = true, v[b] = look(from + b * 4 * x.stride);
    return any;
  }

  /// Digits to a part at `to` in shared memory.
  __device__ __forceinline__ void place(bool in_packets, uint32_t to, int span, int lane) {
    __half2 largest_two[2] = {};
#pragma unroll
    for (int b = 0; b < kCells; ++b) {
      if (in_packets) v[b] = HalfPackets::values(v[b]);
      const uint32_t words[4] = {v[b].x, v[b].y, v[b].z, v[b].w};
#pragma unroll
      for (int i = 0; i < 4; ++i) largest_two[b % 2] = __hmax2_nan(largest_two[b % 2], __habs2(*reinterpret_cast<const __half2*>(&words[i])));
    }
    const float2 two = __half22float2(__hmax2_nan(largest_two[0], largest_two[1]));
    float most = larger(two.x, two.y);
    most = larger(most, __shfl_xor_sync(0xffffffffu, most, 8));
    most = larger(most, __shfl_xor_sync(0xffffffffu, most, 16));
    const Digits digits(most);
    const int token = lane % kChainRows, cell = lane / kChainRows;
    const uint32_t at = to + span * (kSpan / kChunk * kRowsChunkBytes) + token * kChunk + (cell ^ token / 2) * 16;
    int sum = 0;
#pragma unroll
    for (int c = 0; c < kSpan / kChunk; ++c) {
      uint4 high, low;
      sum += digits.write(four_halves(v[2 * c].x, v[2 * c].y), high.x, low.x) + digits.write(four_halves(v[2 * c].z, v[2 * c].w), high.y, low.y);
      sum += digits.write(four_halves(v[2 * c + 1].x, v[2 * c + 1].y), high.z, low.z);
      sum += digits.write(four_halves(v[2 * c + 1].z, v[2 * c + 1].w), high.w, low.w);
      store(at + c * kRowsChunkBytes, high);
      store(at + c * kRowsChunkBytes + kRowsChunkBytes / 2, low);
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 8);
    sum += __shfl_xor_sync(0xffffffffu, sum, 16);
    if (cell == 0)
      asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(to + kPartK / kChunk * kRowsChunkBytes + (span * kChainRows + token) * 8),
                   "r"(__float_as_uint(digits.factor())), "r"(sum)
                   : "memory");
  }

  /// As they are, to where the span's digits will be, and back.
  __device__ __forceinline__ void park(uint32_t to, int span, int lane) const {
#pragma unroll
    for (int b = 0; b < kCells; ++b) store(to + span * (kSpan / kChunk * kRowsChunkBytes) + (b * kWarp + lane) * 16, v[b]);
  }
  __device__ __forceinline__ void unpark(uint32_t from, int span, int lane) {
#pragma unroll
    for (int b = 0; b < kCells; ++b) v[b] = load_16(from + span * (kSpan / kChunk * kRowsChunkBytes) + (b * kWarp + lane) * 16);
    __syncwarp();  // digits come there
  }

 private:
  __device__ __forceinline__ static bool has(const RowsSource& x, int k, int span, int lane) { return span * kSpan < k && lane % kChainRows < x.m; }
  __device__ __forceinline__ static const uint4* place_of(const RowsSource& x, int first, int span, int lane) {
    return x.at(first / 8 + span * (kSpan / 8) + lane / kChainRows, lane % kChainRows);
  }
  __device__ __forceinline__ static void store(uint32_t to, const uint4& v) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
  }
};

/// Squares of the residual stream, row tile by row tile, and what x carries: a thread's packets.
struct RowsSquares {
  static constexpr int kMost = 3;  // tiles of 8192 outputs, and one more
  uint4 v[kMost] = {};

  __device__ __forceinline__ void take(const uint4* squares, int count) {
#pragma unroll
    for (int b = 0; b < kMost; ++b) {
      v[b] = make_uint4(0, 0, 0, 0);
      if (static_cast<int>(threadIdx.x) + b * kChainThreads < count) v[b] = look(squares + threadIdx.x + b * kChainThreads);
    }
  }

  /// `count` packets in all, of which the last two are what x carries. Sums go by warps to shared memory: over tiles in ascending order, then over lanes.
  __device__ __forceinline__ void place(const ChainRowsShared& shared, const uint4* squares, int count, uint32_t uses, int warp, int lane) {
    const FloatPackets kind{uses};
#pragma unroll 1
    for (unsigned polls = 0;; ++polls) {
      bool any = false;
#pragma unroll
      for (int b = 0; b < kMost; ++b) {
        const int i = threadIdx.x + b * kChainThreads;
        if (i < count && !kind.is_there(v[b])) any = true, v[b] = look(squares + i);
      }
      if (!__any_sync(0xffffffffu, any)) break;
      if (polls > kMostPolls) give_up();
      if (polls > 0) __nanosleep(kPause);
    }
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
    for (int b = 0; b < kMost; ++b) {
      const int i = threadIdx.x + b * kChainThreads;
      const float4 four = FloatPackets::values(v[b]);
      if (i < count - 2) sum.x += four.x, sum.y += four.y, sum.z += four.z, sum.w += four.w;
      else if (i < count) reinterpret_cast<float4*>(shared.carried)[i % 2] = four;
    }
#pragma unroll
    for (int step = 2; step < kWarp; step *= 2) {
      sum.x += __shfl_xor_sync(0xffffffffu, sum.x, step), sum.y += __shfl_xor_sync(0xffffffffu, sum.y, step);
      sum.z += __shfl_xor_sync(0xffffffffu, sum.z, step), sum.w += __shfl_xor_sync(0xffffffffu, sum.w, step);
    }
    if (lane < 2) reinterpret_cast<float4*>(shared.squares + warp * kChainRows)[lane] = sum;
  }
};

/// As it crosses from block to block.
__device__ __forceinline__ float as_sent(float v) { return __uint_as_float(FloatPackets{0}.marked(v, 0)); }

/// 1 / sqrt(mean(r^2) + eps) of token lane % kChainRows, as every block has it.
__device__ __forceinline__ float rows_factor(const ChainRowsShared& shared, int k, float eps, int lane) {
  const float* from = shared.squares + lane / kChainRows * (kChainWarps / 4 * kChainRows) + lane % kChainRows;
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < kChainWarps / 4; ++i) sum += from[i * kChainRows];
  sum += __shfl_xor_sync(0xffffffffu, sum, 8);
  sum += __shfl_xor_sync(0xffffffffu, sum, 16);
  return as_sent(rsqrtf(__fdividef(sum, static_cast<float>(k)) + eps));
}

}  // namespace exllama
