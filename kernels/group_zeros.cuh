// Codes of four bits as operands of products, less their zeros.
#pragma once

#include "common.cuh"

namespace exllama {

/// A lane's two zeros of a group: makes operands of codes.
struct GroupZeros {
  uint32_t low, high;  // 1024 + zero of row g, -64 - zero of row g + 8, fp16 pairs

  GroupZeros() = default;
  __device__ __forceinline__ GroupZeros(uint2 packed, int lane) {
    const int shift = lane & 28;  // 4 g
    low = (packed.x >> shift & 15) * 0x00010001u + 0x64006400u;
    high = (packed.y >> shift & 15) * 0x00100010u + 0xd400d400u;
  }

  /// A word of codes as the operand of a product: code - zero, exact.
  __device__ __forceinline__ void take(uint32_t q, uint32_t (&a)[4]) const {
    const auto pair = [](uint32_t bits) { return *reinterpret_cast<__half2*>(&bits); };
    const auto bits = [](__half2 v) { return *reinterpret_cast<uint32_t*>(&v); };
    const auto magic = [](uint32_t q, uint32_t mask) {  // 1024 + the code, or 1024 + 16 times the code
      uint32_t v;
      asm("lop3.b32 %0, %1, %2, 0x64006400, 0xea;" : "=r"(v) : "r"(q), "r"(mask));
      return v;
    };
    const __half2 sixteenth = pair(0x2c002c00u);
    const uint32_t r = q >> 8;
    a[0] = bits(__hsub2_rn(pair(magic(q, 0x000f000fu)), pair(low)));
    a[1] = bits(__hfma2(pair(magic(q, 0x00f000f0u)), sixteenth, pair(high)));
    a[2] = bits(__hsub2_rn(pair(magic(r, 0x000f000fu)), pair(low)));
    a[3] = bits(__hfma2(pair(magic(r, 0x00f000f0u)), sixteenth, pair(high)));
  }
};

}  // namespace exllama
