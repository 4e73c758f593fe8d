// How x comes into a block's shared memory: from attention or, in packets, from all blocks; and what packets are.
//
// A packet is eight bytes, value and epoch, stored and loaded as one: who reads an epoch that is this launch's has the value. So
// nobody counts arrivals, no fence is needed, and a meeting of all blocks costs one way to L2 and one back. A buffer of packets is
// written again only by blocks that have had the packets of the meeting after it, which nobody sends before having read all of this
// one; a block that sends nothing reads nothing.
#pragma once

#include "linear_chain.cuh"

namespace exllama {

/// Polls until a packet would have arrived ten times over: then something is wrong with the launch.
constexpr unsigned kMostPolls = 1u << 25;

/// Ends the launch with an error. A trap instead would cost the warps what take_registers() has given them: the assembler then keeps to
/// the registers that the launch began with.
__device__ __forceinline__ void give_up() { asm volatile("st.global.u32 [%0], %1;" ::"l"(0ull), "r"(0) : "memory"); }

__device__ __forceinline__ void send(uint64_t* to, uint32_t value, uint32_t epoch) {
  const uint64_t packet = uint64_t(epoch) << 32 | value;
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(packet) : "memory");
}

/// Two packets as they are now: value, epoch, value, epoch.
__device__ __forceinline__ uint4 look(const uint64_t* from) {
  uint64_t a, b;
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(a), "=l"(b) : "l"(from) : "memory");
  return make_uint4(static_cast<uint32_t>(a), static_cast<uint32_t>(a >> 32), static_cast<uint32_t>(b), static_cast<uint32_t>(b >> 32));
}

/// Waits until a packet has been sent, of those that lanes have addresses of. Blocks send what they have at once, so
/// one of each block's tells of the others, and a look at it takes little of L2's time.
__device__ __forceinline__ void await_packets(const uint64_t* from, uint32_t epoch) {
  unsigned polls = 0;
  bool there = from == nullptr;
#pragma unroll 1
  while (true) {
    if (!there) {
      uint64_t packet;
      asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(packet) : "l"(from) : "memory");
      there = static_cast<uint32_t>(packet >> 32) == epoch;
    }
    if (__all_sync(0xffffffffu, there)) return;
    if (++polls > kMostPolls) give_up();
  }
}

/// Whether all lanes' packets are of this epoch.
__device__ __forceinline__ bool arrived(const uint4& packets, uint32_t epoch) {
  return __all_sync(0xffffffffu, packets.y == epoch && packets.w == epoch);
}

/// What the largest x of a span becomes: its high digit is 127.
constexpr float kMostDigits = 32512.f;

__device__ __forceinline__ uint32_t half_pair(float a, float b) {
  const __half2 pair = __floats2half2_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ float2 float_pair(uint32_t word) { return __half22float2(*reinterpret_cast<const __half2*>(&word)); }

/// Four k of x, one after the other, as this lane's part of a span: turned into sixteen bits each with a factor that the span
/// has in common, high and low digit apart, in the order of the codes. All lanes take part.
template <int kBits, int kGroup>
__device__ __forceinline__ void place_x(const ChainBuffers& p, const ChainShared<kBits, kGroup>& shared, int span, int lane, float4 v) {
  // The bits of numbers without a sign are in the order of the numbers.
  const uint32_t own = max(max(__float_as_uint(fabsf(v.x)), __float_as_uint(fabsf(v.y))), max(__float_as_uint(fabsf(v.z)), __float_as_uint(fabsf(v.w))));
  const float most = __uint_as_float(__reduce_max_sync(0xffffffffu, own));
  const float factor = most > 1e-30f ? kMostDigits / most : 0.f;
  const int a = __float2int_rn(v.x * factor), b = __float2int_rn(v.y * factor), c = __float2int_rn(v.z * factor), d = __float2int_rn(v.w * factor);
  // value = 256 * high + low, low from -128 to 127. In a word the codes of k, k + 2, k + 1, k + 3 follow each other.
  const int e = a + 128, f = b + 128, g = c + 128, h = d + 128;
  const uint32_t low = __byte_perm(__byte_perm(e, g, 0x0040), __byte_perm(f, h, 0x0040), 0x5410) ^ 0x80808080u;
  const uint32_t high = __byte_perm(__byte_perm(e, g, 0x0051), __byte_perm(f, h, 0x0051), 0x5410);
  const int at = (span * 2 + lane / 16) * kChunk + lane % 8 / 2 * 16 + lane % 16 / 8 * 8 + lane % 2 * 4;
  *reinterpret_cast<uint32_t*>(shared.x + at) = high;
  *reinterpret_cast<uint32_t*>(shared.x + p.x_pitch + at) = low;
  const int sum = __reduce_add_sync(0xffffffffu, a + b + c + d);
  if (lane == 0) shared.spans[span] = {most * (1.f / kMostDigits), sum};
}

__device__ __forceinline__ float4 four_halves(uint32_t first, uint32_t second) {
  const float2 a = float_pair(first), b = float_pair(second);
  return make_float4(a.x, a.y, b.x, b.y);
}

/// x of o where attention was another launch: [k] f16.
template <int kBits, int kGroup>
__device__ __forceinline__ void stage_halves(const ChainBuffers& p, const ChainShared<kBits, kGroup>& shared, const __half* x, int k, int warp,
                                             int lane) {
  constexpr int kBatch = 2;
  const int spans = k / kSpan;
#pragma unroll 1
  for (int base = warp; base < spans; base += kChainWarps * kBatch) {
    uint2 words[kBatch] = {};
#pragma unroll
    for (int b = 0; b < kBatch; ++b)
      if (base + b * kChainWarps < spans) words[b] = reinterpret_cast<const uint2*>(x)[(base + b * kChainWarps) * 32 + lane];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int span = base + b * kChainWarps;
      if (span < spans) place_x(p, shared, span, lane, four_halves(words[b].x, words[b].y));
    }
  }
}

/// The packets that await_packets() looks at for a warp's spans: four of each span, one for each 32 k.
constexpr int kAsked = 4;

/// x of down, silu(gate) * up, or of o, what heads have gathered: packets of two f16 of all blocks.
template <int kBits, int kGroup>
__device__ __forceinline__ void stage_pairs(const ChainBuffers& p, const ChainShared<kBits, kGroup>& shared, const uint64_t* pairs, int k,
                                            uint32_t epoch, int warp, int lane) {
  constexpr int kBatch = 5;
  const int spans = k / kSpan;
#pragma unroll 1
  for (int base = warp; base < spans; base += kChainWarps * kBatch) {
    const int asked = base + lane / kAsked * kChainWarps;
    await_packets(lane < kAsked * kBatch && asked < spans ? pairs + asked * (kSpan / 2) + lane % kAsked * (kSpan / 2 / kAsked) : nullptr, epoch);
    uint4 v[kBatch] = {};
    for (bool all = false; !all;) {
      all = true;
#pragma unroll
      for (int b = 0; b < kBatch; ++b)
        if (base + b * kChainWarps < spans) v[b] = look(pairs + ((base + b * kChainWarps) * 32 + lane) * 2);
#pragma unroll
      for (int b = 0; b < kBatch; ++b)
        if (base + b * kChainWarps < spans) all = all && arrived(v[b], epoch);
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b)
      if (base + b * kChainWarps < spans) place_x(p, shared, base + b * kChainWarps, lane, four_halves(v[b].x, v[b].z));
  }
}

/// x of gate and up, or of q, k, v: the residual stream of all blocks times the norm's weights. What all of it is
/// divided by is left to the results, and needs the warps' sums of squares.
template <int kBits, int kGroup>
__device__ __forceinline__ void stage_normed(const ChainBuffers& p, const ChainShared<kBits, kGroup>& shared, const __half* norm, int k,
                                             uint32_t epoch, int warp, int lane) {
  constexpr int kBatch = 2;
  const int spans = k / kSpan;
  float squares = 0.f;
#pragma unroll 1
  for (int base = warp; base < spans; base += kChainWarps * kBatch) {
    const int asked = base + lane / kAsked * kChainWarps;
    uint2 factors[kBatch] = {};
#pragma unroll
    for (int b = 0; b < kBatch; ++b)
      if (base + b * kChainWarps < spans) factors[b] = __ldg(reinterpret_cast<const uint2*>(norm) + (base + b * kChainWarps) * 32 + lane);
    await_packets(lane < kAsked * kBatch && asked < spans ? p.sums + asked * kSpan + lane % kAsked * (kSpan / kAsked) : nullptr, epoch);
    uint4 v[kBatch][2] = {};
    for (bool all = false; !all;) {
      all = true;
#pragma unroll
      for (int b = 0; b < kBatch; ++b)
        if (base + b * kChainWarps < spans) {
          const uint64_t* from = p.sums + ((base + b * kChainWarps) * 32 + lane) * 4;
          v[b][0] = look(from), v[b][1] = look(from + 2);
        }
#pragma unroll
      for (int b = 0; b < kBatch; ++b)
        if (base + b * kChainWarps < spans) all = all && arrived(v[b][0], epoch) && arrived(v[b][1], epoch);
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      if (base + b * kChainWarps >= spans) break;
      const float4 r = make_float4(__uint_as_float(v[b][0].x), __uint_as_float(v[b][0].z), __uint_as_float(v[b][1].x), __uint_as_float(v[b][1].z));
      squares += r.x * r.x + r.y * r.y + r.z * r.z + r.w * r.w;
      const float4 f = four_halves(factors[b].x, factors[b].y);
      place_x(p, shared, base + b * kChainWarps, lane, make_float4(r.x * f.x, r.y * f.y, r.z * f.z, r.w * f.w));
    }
  }
  squares = warp_sum(squares);
  if (lane == 0) shared.squares[warp] = squares;
}

/// 1 / sqrt(mean(x^2) + eps) of what stage_normed() has seen, after a meeting.
template <typename Shared>
__device__ __forceinline__ float norm_factor(const Shared& shared, int k, float eps) {
  float sum = 0.f;
#pragma unroll
  for (int w = 0; w < kChainWarps; ++w) sum += shared.squares[w];
  return rsqrtf(sum / static_cast<float>(k) + eps);
}

}  // namespace exllama
