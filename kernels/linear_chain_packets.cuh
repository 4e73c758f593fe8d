// What blocks of a chain tell each other, in packets.
//
// A packet is stored and loaded as one, value and mark: who reads the mark that is awaited has the value. So nobody counts arrivals, no
// fence is needed, and a meeting of all blocks costs one way to L2 and one back. A buffer of packets is
// written again only by blocks that have had the packets of the meeting after it, which nobody sends before having read all of this
// one; a block that sends nothing reads nothing.
//
// Of the small ones, eight bytes, half is the value and half the mark, an epoch. What every block reads, and thus L2 delivers
// a hundred times while weights want all of its width, is in packets of sixteen bytes which are value but for a few bits: four f32
// with the low 16 bits of the epoch in the last four of each; or eight f16 with two bits, which count how often the buffer was used. That
// is enough: what lies there from before is of the use just before.
#pragma once

#include "giving_up.cuh"
#include "linear_chain.cuh"

namespace exllama {

/// Between two looks, ns: all blocks look at the same packets, and keep them from being written as well as L2 from delivering weights.
constexpr unsigned kPause = 100;

/// Only if `really`, without a branch.
__device__ __forceinline__ void send(uint64_t* to, uint32_t value, uint32_t epoch, bool really = true) {
  const uint64_t packet = uint64_t(epoch) << 32 | value;
  asm volatile(
      "{\n"
      ".reg .pred really;\n"
      "setp.ne.u32 really, %2, 0;\n"
      "@really st.relaxed.gpu.global.u64 [%0], %1;\n"
      "}" ::"l"(to),
      "l"(packet), "r"(uint32_t(really))
      : "memory");
}

/// Two packets as they are now: value, epoch, value, epoch.
__device__ __forceinline__ uint4 look(const uint64_t* from) {
  uint64_t a, b;
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(a), "=l"(b) : "l"(from) : "memory");
  return make_uint4(static_cast<uint32_t>(a), static_cast<uint32_t>(a >> 32), static_cast<uint32_t>(b), static_cast<uint32_t>(b >> 32));
}

__device__ __forceinline__ void send(uint4* to, const uint4& packet, bool really = true) {
  const uint64_t a = uint64_t(packet.y) << 32 | packet.x, b = uint64_t(packet.w) << 32 | packet.z;
  asm volatile(
      "{\n"
      ".reg .pred really;\n"
      ".reg .b128 packet;\n"
      "setp.ne.u32 really, %3, 0;\n"
      "mov.b128 packet, {%1, %2};\n"
      "@really st.relaxed.gpu.global.b128 [%0], packet;\n"
      "}" ::"l"(to),
      "l"(a), "l"(b), "r"(uint32_t(really))
      : "memory");
}
__device__ __forceinline__ uint4 look(const uint4* from) {
  uint64_t a, b;
  asm volatile(
      "{\n"
      ".reg .b128 packet;\n"
      "ld.relaxed.gpu.global.b128 packet, [%2];\n"
      "mov.b128 {%0, %1}, packet;\n"
      "}"
      : "=l"(a), "=l"(b)
      : "l"(from)
      : "memory");
  return make_uint4(static_cast<uint32_t>(a), static_cast<uint32_t>(a >> 32), static_cast<uint32_t>(b), static_cast<uint32_t>(b >> 32));
}

/// Four f32, each rounded to 20 bits of mantissa; what is no number stays none.
struct FloatPackets {
  uint32_t epoch;
  static constexpr uint32_t kMark = 15;
  __device__ __forceinline__ uint32_t marked(float value, int i) const {
    const uint32_t bits = __float_as_uint(value);
    return (value == value ? bits + 8 : bits) & ~kMark | epoch >> 4 * i & kMark;
  }
  /// Without the marks, which differ from time to time.
  __device__ __forceinline__ static float4 values(const uint4& v) {
    return make_float4(__uint_as_float(v.x & ~kMark), __uint_as_float(v.y & ~kMark), __uint_as_float(v.z & ~kMark), __uint_as_float(v.w & ~kMark));
  }
  __device__ __forceinline__ bool is_there(const uint4& v) const {
    return (((v.x ^ epoch) | (v.y ^ epoch >> 4) | (v.z ^ epoch >> 8) | (v.w ^ epoch >> 12)) & kMark) == 0;
  }
};

/// Eight f16, of which two give their last bit.
struct HalfPackets {
  uint32_t uses;
  __device__ __forceinline__ uint4 marked(const uint4& v) const { return make_uint4(v.x & ~1u | uses & 1, v.y, v.z & ~1u | uses >> 1 & 1, v.w); }
  __device__ __forceinline__ static uint4 values(const uint4& v) { return make_uint4(v.x & ~1u, v.y, v.z & ~1u, v.w); }
  __device__ __forceinline__ bool is_there(const uint4& v) const { return (((v.x ^ uses) | (v.z ^ uses >> 1)) & 1) == 0; }
};

/// Of four lanes next to each other a number each; the first one sends, if `really`. Lanes of `mask` call it.
__device__ __forceinline__ void send_floats(uint4* sums, int n, float value, uint32_t epoch, uint32_t mask, bool really = true) {
  const uint32_t word = FloatPackets{epoch}.marked(value, n % 4);
  const uint4 packet = make_uint4(word, __shfl_down_sync(mask, word, 1), __shfl_down_sync(mask, word, 2), __shfl_down_sync(mask, word, 3));
  send(sums + n / 4, packet, really && n % 4 == 0);
}

/// Whether all lanes' packets are of this epoch.
__device__ __forceinline__ bool arrived(const uint4& packets, uint32_t epoch) {
  return __all_sync(0xffffffffu, packets.y == epoch && packets.w == epoch);
}

__device__ __forceinline__ uint32_t half_pair(float a, float b) {
  const __half2 pair = __floats2half2_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ float2 float_pair(uint32_t word) { return __half22float2(*reinterpret_cast<const __half2*>(&word)); }

}  // namespace exllama
