// How x comes into a block's shared memory: from attention or, in packets, from all blocks.
#pragma once

#include "linear_chain_packets.cuh"

namespace exllama {

/// What the largest x of a span becomes: its high digit is 127.
constexpr float kMostDigits = 32512.f;

#ifdef EXLLAMA_WGMMA

/// Numbers as sixteen bits with a factor in common: value = factor * (256 * high + low), low from -128 to 127.
struct Digits {
  float most;   // the largest of them
  float scale;  // 1 / factor

  __device__ __forceinline__ explicit Digits(float largest) : most(largest) {
    float inverse;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(most));
    scale = most > 1e-30f ? kMostDigits * inverse : 0.f;
  }
  __device__ __forceinline__ float factor() const { return most * (1.f / kMostDigits); }

  /// The high and the low digits of four k, in the order of the codes, which in a word are of k, k + 2, k + 1, k + 3. @returns the numbers' sum
  __device__ __forceinline__ int write(const float4& v, uint32_t& high, uint32_t& low) const {
    // Added to a number below 2^22, 1.5 * 2^23 leaves its nearest integer in the last bits: conversions would wait for each other. With 128 more,
    // the last two bytes are the digits, but for the low one's sign.
    const auto rounded = [&](float x) { return __float_as_uint(fmaf(x, scale, 12582912.f + 128.f)); };
    const uint32_t a = rounded(v.x), b = rounded(v.y), c = rounded(v.z), d = rounded(v.w);
    const uint32_t even = __byte_perm(a, c, 0x5410), odd = __byte_perm(b, d, 0x5410);
    low = __byte_perm(even, odd, 0x6420) ^ 0x80808080u;
    high = __byte_perm(even, odd, 0x7531);
    return static_cast<int>(a + b + c + d - 4 * (0x4b400000u + 128));
  }
};

/// Of all lanes' largest the largest: the bits of numbers without a sign are in the order of the numbers.
__device__ __forceinline__ float over_lanes(float own) { return __uint_as_float(__reduce_max_sync(0xffffffffu, __float_as_uint(own))); }

/// What is no number counts as the largest, and so makes a factor that is none.
__device__ __forceinline__ float larger(float a, float b) {
  float c;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
  return c;
}
__device__ __forceinline__ float largest(const float4& v) { return larger(larger(fabsf(v.x), fabsf(v.y)), larger(fabsf(v.z), fabsf(v.w))); }

/// Where the digits of k lie in a span's: those of four k together.
__device__ __forceinline__ int digits_at(int span, int k) {
  return span * kSpan + k / kChunk * kChunk + k % (kChunk / 2) / 8 * 16 + k % kChunk / (kChunk / 2) * 8 + k % 8 / 4 * 4;
}

/// Four k of x, one after the other, as this lane's part of a span. All lanes take part.
template <int kBits, int kGroup>
__device__ __forceinline__ void place_x(const ChainBuffers& p, const ChainShared<kBits, kGroup>& shared, int span, int lane, const float4& v) {
  const Digits digits(over_lanes(largest(v)));
  uint32_t high, low;
  const int sum = __reduce_add_sync(0xffffffffu, digits.write(v, high, low)), at = digits_at(span, 4 * lane);
  *reinterpret_cast<uint32_t*>(shared.x + at) = high;
  *reinterpret_cast<uint32_t*>(shared.x + p.x_pitch + at) = low;
  if (lane == 0) shared.spans[span] = {digits.factor(), sum};
}

/// Eight k of x as this lane's part of two spans, which have the factor in common. What is not there is zero, and placed too.
template <int kBits, int kGroup>
__device__ __forceinline__ void place_eight(const ChainBuffers& p, const ChainShared<kBits, kGroup>& shared, int pair, int lane, const float4& v,
                                            const float4& w) {
  const Digits digits(over_lanes(larger(largest(v), largest(w))));
  uint2 high, low;
  const int own = digits.write(v, high.x, low.x) + digits.write(w, high.y, low.y);
  const int of_first = __reduce_add_sync(0xffffffffu, lane < 16 ? own : 0), of_second = __reduce_add_sync(0xffffffffu, lane < 16 ? 0 : own);
  const int span = 2 * pair + lane / 16, at = digits_at(span, lane % 16 * 8);
  *reinterpret_cast<uint2*>(shared.x + at) = high;
  *reinterpret_cast<uint2*>(shared.x + p.x_pitch + at) = low;
  if (lane % 16 == 0) shared.spans[span] = {digits.factor(), lane == 0 ? of_first : of_second};
}

__device__ __forceinline__ float4 four_halves(uint32_t first, uint32_t second) {
  const float2 a = float_pair(first), b = float_pair(second);
  return make_float4(a.x, a.y, b.x, b.y);
}

/// x of o where attention was another launch: [k] f16.
template <int kBits, int kGroup, typename Meanwhile>
__device__ __forceinline__ void stage_halves(const ChainBuffers& p, const ChainShared<kBits, kGroup>& shared, const __half* x, int k, int warp,
                                             int lane, Meanwhile meanwhile) {
  meanwhile();
  const uint4* eights = reinterpret_cast<const uint4*>(x);
#pragma unroll 1
  for (int i = warp * kWarp + lane; i - lane < k / 8; i += kChainThreads) {
    const uint4 v = i < k / 8 ? eights[i] : make_uint4(0, 0, 0, 0);
    place_eight(p, shared, i / kWarp, lane, four_halves(v.x, v.y), four_halves(v.z, v.w));
  }
}

/// A warp's packets, kWarp at a time of every sixteenth kWarp from `first` on: up to kMost of a lane's, of `count` in all; zeros where there are no
/// more. What is to be done `meanwhile` is, while the first look is under way.
template <int kMost, typename Kind, typename Meanwhile>
__device__ __forceinline__ void receive_all(uint4 (&v)[kMost], const uint4* packets, int first, int count, const Kind& kind, int lane,
                                            Meanwhile meanwhile) {
  const int own = first + lane;
  bool missing[kMost];
#pragma unroll
  for (int b = 0; b < kMost; ++b) v[b] = make_uint4(0, 0, 0, 0), missing[b] = own + b * kChainThreads < count;
#pragma unroll 1
  for (unsigned polls = 0;; ++polls) {
#pragma unroll
    for (int b = 0; b < kMost; ++b)
      if (missing[b]) v[b] = look(packets + own + b * kChainThreads);
    if (polls == 0) meanwhile();
    bool any = false;
#pragma unroll
    for (int b = 0; b < kMost; ++b) missing[b] = missing[b] && !kind.is_there(v[b]), any |= missing[b];
    if (!__any_sync(0xffffffffu, any)) return;
    if (polls > kMostPolls) give_up();
    __nanosleep(kPause);
  }
}

/// x of down, silu(gate) * up, or of o, what heads have gathered: packets of all blocks.
template <int kBits, int kGroup, typename Meanwhile>
__device__ __forceinline__ void stage_pairs(const ChainBuffers& p, const ChainShared<kBits, kGroup>& shared, const uint4* packets, int k,
                                            uint32_t uses, int warp, int lane, Meanwhile meanwhile) {
  constexpr int kMost = 4;  // 8192 of k: all of a model of 13B
  const int count = k / 8;
#pragma unroll 1
  for (int first = warp * kWarp; first < count; first += kChainThreads * kMost) {
    uint4 v[kMost];
    receive_all(v, packets, first, count, HalfPackets{uses}, lane, meanwhile);
#pragma unroll
    for (int b = 0; b < kMost; ++b)
      if (first + b * kChainThreads < count) {
        const uint4 x = HalfPackets::values(v[b]);
        place_eight(p, shared, first / kWarp + b * kChainWarps, lane, four_halves(x.x, x.y), four_halves(x.z, x.w));
      }
  }
}

/// x of gate and up, or of q, k, v: the residual stream of all blocks times the norm's weights. What all of it is
/// divided by is left to the results, and needs the warps' sums of squares.
template <int kBits, int kGroup, typename Meanwhile>
__device__ __forceinline__ void stage_normed(const ChainBuffers& p, const ChainShared<kBits, kGroup>& shared, const __half* norm, int k,
                                             uint32_t epoch, int warp, int lane, Meanwhile meanwhile) {
  constexpr int kMost = 4;  // 8192 of k: all of the widest model
  const int count = k / 4;
  float squares = 0.f;
#pragma unroll 1
  for (int first = warp * kWarp; first < count; first += kChainThreads * kMost) {
    uint2 factors[kMost] = {};
#pragma unroll
    for (int b = 0; b < kMost; ++b)
      if (first + b * kChainThreads < count) factors[b] = __ldg(reinterpret_cast<const uint2*>(norm) + first + b * kChainThreads + lane);
    uint4 v[kMost];
    receive_all(v, p.sums, first, count, FloatPackets{epoch}, lane, meanwhile);
#pragma unroll
    for (int b = 0; b < kMost; ++b) {
      if (first + b * kChainThreads >= count) break;
      const float4 r = FloatPackets::values(v[b]);
      squares += r.x * r.x + r.y * r.y + r.z * r.z + r.w * r.w;
      const float4 f = four_halves(factors[b].x, factors[b].y);
      place_x(p, shared, first / kWarp + b * kChainWarps, lane, make_float4(r.x * f.x, r.y * f.y, r.z * f.z, r.w * f.w));
    }
  }
  squares = warp_sum(squares);
  if (lane == 0) shared.squares[warp] = squares;
}

#endif  // EXLLAMA_WGMMA

/// 1 / sqrt(mean(x^2) + eps) of what stage_normed() has seen, after a meeting.
template <typename Shared>
__device__ __forceinline__ float norm_factor(const Shared& shared, int k, float eps) {
  const float4* squares = reinterpret_cast<const float4*>(shared.squares);
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < kChainWarps / 4; ++i) sum += (squares[i].x + squares[i].y) + (squares[i].z + squares[i].w);
  return rsqrtf(__fdividef(sum, static_cast<float>(k)) + eps);
}

}  // namespace exllama
