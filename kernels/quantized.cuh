// The order in which quantised weights lie on the device, and how a warp turns them into
// fragments of the tensor cores.
//
// A linear [out, in] is cut into row tiles of 16 outputs, a row tile into superblocks of 1024 k
// (the last one shorter, padded to 64), a superblock into chunks of 64 k:
//
//   superblock := codes[chunks][planes] scales f16[groups][16] zeros[groups][16] padding to 16 bytes
//
// In a chunk every lane of a warp owns one vector, so that a warp reads it with one wide load per
// lane, contiguous over lanes. With g = lane / 4, t = lane % 4, the fragment of mma j = 0..3 is
//
//   k(j, t, hi, i) = 32 (j / 2) + 8 t + 4 (j % 2) + 2 hi + i        i, hi in {0, 1}
//   a[0] = W[g][hi 0]   a[1] = W[g + 8][hi 0]   a[2] = W[g][hi 1]   a[3] = W[g + 8][hi 1]
//
// (x is indexed by the same k), hence the two mma of 32 k need eight consecutive x: one 16-byte
// load, and a group of 32 never straddles an mma. The same numbers are in
// src/backend/cuda/weights/quantized-layout.ts.
#pragma once

#include "common.cuh"

namespace exllama {

constexpr int kTileRows = 16;
constexpr int kSuperblock = 1024;
constexpr int kChunk = 64;

/// As mma_16x8x16, which the compiler may not move: this it may.
__device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  const uint32_t b[2] = {b0, b1};
  mma_16x8x16(c, a, b);
#endif
}

/// A value that the compiler knows nothing of: what follows from it is neither computed again in every round of a loop where
/// it was settled before the loop, nor kept in registers through all rounds where it was settled inside.
__device__ __forceinline__ unsigned settled(unsigned v) {
  asm volatile("" : "+r"(v));
  return v;
}

/// Sizes for `kBits` per code and scale groups of `kGroup` k.
template <int kBits, int kGroup>
struct Layout {
  static_assert(kBits == 2 || kBits == 3 || kBits == 4 || kBits == 8);
  static_assert(kGroup == 32 || kGroup == 64 || kGroup == 128);
  static constexpr int kCentre = 1 << (kBits - 1);
  static constexpr int kChunkBytes = kChunk * kTileRows * kBits / 8;
  static constexpr int kZeroBits = kBits == 8 ? 8 : 4;
  static constexpr int kScaleBytes = kTileRows * 2;
  static constexpr int kZeroBytes = kTileRows * kZeroBits / 8;

  __host__ __device__ static constexpr int superblock_bytes(int k) {
    const int groups = (k + kGroup - 1) / kGroup;
    return (k * kTileRows * kBits / 8 + groups * (kScaleBytes + kZeroBytes) + 15) & ~15;
  }

  /// Bytes of one row tile; `k` is the padded input size, a multiple of 64.
  __host__ __device__ static constexpr size_t tile_bytes(int k) {
    return size_t(k / kSuperblock) * superblock_bytes(kSuperblock) + (k % kSuperblock ? superblock_bytes(k % kSuperblock) : 0);
  }
};

/// The codes of one chunk as one lane holds them.
template <int kBits>
struct Codes {
  static constexpr int kWords = 2 * kBits;  // of 32 bits: 64 x 16 codes over 32 lanes
  uint32_t word[kWords];

  __device__ __forceinline__ void load(const uint8_t* chunk, int lane) {
    if constexpr (kBits == 4) {
      const uint4 v = load_stream(reinterpret_cast<const uint4*>(chunk) + lane);
      word[0] = v.x, word[1] = v.y, word[2] = v.z, word[3] = v.w;
    } else if constexpr (kBits == 8) {
      // Two planes of 512 bytes: mma 0 and 1, mma 2 and 3.
      const uint4 v = load_stream(reinterpret_cast<const uint4*>(chunk) + lane);
      const uint4 u = load_stream(reinterpret_cast<const uint4*>(chunk) + 32 + lane);
      word[0] = v.x, word[1] = v.y, word[2] = v.z, word[3] = v.w;
      word[4] = u.x, word[5] = u.y, word[6] = u.z, word[7] = u.w;
    } else if constexpr (kBits == 2) {
      const uint2 v = __ldg(reinterpret_cast<const uint2*>(chunk) + lane);
      word[0] = v.x, word[1] = v.y;
      word[2] = word[3] = 0;
    } else {
      // A plane of the low two bits (256 bytes), then a plane of the third (128 bytes).
      const uint2 v = __ldg(reinterpret_cast<const uint2*>(chunk) + lane);
      word[0] = v.x, word[1] = v.y;
      word[2] = __ldg(reinterpret_cast<const uint32_t*>(chunk + 256) + lane);
    }
  }

  /// The same from a copy of the chunk in shared memory.
  __device__ __forceinline__ void load_shared(const uint8_t* chunk, int lane) {
    if constexpr (kBits == 4 || kBits == 8) {
      const uint4 v = reinterpret_cast<const uint4*>(chunk)[lane];
      word[0] = v.x, word[1] = v.y, word[2] = v.z, word[3] = v.w;
      if constexpr (kBits == 8) {
        const uint4 u = reinterpret_cast<const uint4*>(chunk)[32 + lane];
        word[4] = u.x, word[5] = u.y, word[6] = u.z, word[7] = u.w;
      }
    } else {
      const uint2 v = reinterpret_cast<const uint2*>(chunk)[lane];
      word[0] = v.x, word[1] = v.y;
      word[2] = kBits == 3 ? reinterpret_cast<const uint32_t*>(chunk + 256)[lane] : 0;
    }
  }

  /// What raw_fragment() adds to the codes of every row.
  static constexpr int kRawOffset = 1024;
  /// And what it multiplies those of row g (0) and row g + 8 (1) by.
  __host__ __device__ static constexpr int raw_factor(int half) { return kBits == 4 && half == 1 ? 16 : 1; }

  /// Fragment of mma j: factor * code + offset, exact in fp16; a third fewer instructions than fragment().
  __device__ __forceinline__ void raw_fragment(int j, uint32_t (&a)[4]) const {
    if constexpr (kBits == 4) {
      const uint32_t q = word[j], r = q >> 8;
      a[0] = with_magic(q, 0x000f000fu);
      a[1] = with_magic(q, 0x00f000f0u);
      a[2] = with_magic(r, 0x000f000fu);
      a[3] = with_magic(r, 0x00f000f0u);
    } else if constexpr (kBits == 8) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const uint32_t q = word[2 * j + h];
        a[2 * h] = with_magic(q, 0x00ff00ffu);
        a[2 * h + 1] = with_magic(q >> 8, 0x00ff00ffu);
      }
    } else {
      const uint32_t q = word[j / 2] >> (8 * (j & 1));
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        a[r] = with_magic(q >> (2 * r), 0x00030003u);
        if constexpr (kBits == 3) a[r] |= ((word[2] >> (4 * j + r)) & 0x00010001u) << 2;
      }
    }
  }

  /// Fragment of mma j: codes minus the centre, exact in fp16.
  __device__ __forceinline__ void fragment(int j, uint32_t (&a)[4]) const {
    if constexpr (kBits == 4) {
      const uint32_t q = word[j];
      a[0] = centre_low(with_magic(q, 0x000f000fu), 1032);
      a[1] = centre_high(with_magic(q, 0x00f000f0u));
      a[2] = centre_low(with_magic(q >> 8, 0x000f000fu), 1032);
      a[3] = centre_high(with_magic(q >> 8, 0x00f000f0u));
    } else if constexpr (kBits == 8) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const uint32_t q = word[2 * j + h];
        a[2 * h] = centre_low(with_magic(q, 0x00ff00ffu), 1024 + 128);
        a[2 * h + 1] = centre_low(with_magic(q >> 8, 0x00ff00ffu), 1024 + 128);
      }
    } else {
      const uint32_t q = word[j / 2] >> (8 * (j & 1));
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        uint32_t code = with_magic(q >> (2 * r), 0x00030003u);
        if constexpr (kBits == 3) code |= ((word[2] >> (4 * j + r)) & 0x00010001u) << 2;
        a[r] = centre_low(code, 1024 + (kBits == 3 ? 4 : 2));
      }
    }
  }

 private:
  /// (q & mask) | 0x64006400, one instruction: 0x6400 | v is 1024 + v in fp16.
  __device__ __forceinline__ static uint32_t with_magic(uint32_t q, uint32_t mask) {
    uint32_t v;
    asm("lop3.b32 %0, %1, %2, 0x64006400, 0xea;" : "=r"(v) : "r"(q), "r"(mask));
    return v;
  }
  /// 1024 + v less `magic`, exact.
  __device__ __forceinline__ static uint32_t centre_low(uint32_t v, int magic) {
    return as_bits(__hsub2(as_half2(v), __half2half2(__ushort_as_half(0x6400 | (magic - 1024)))));
  }
  /// Codes in bits 4..7: 1024 + 16 v, so v - 8 = (1024 + 16 v) / 16 - 72, exact.
  __device__ __forceinline__ static uint32_t centre_high(uint32_t v) {
    return as_bits(__hfma2(as_half2(v), __float2half2_rn(0.0625f), __float2half2_rn(-72.f)));
  }
  __device__ __forceinline__ static __half2 as_half2(uint32_t v) { return *reinterpret_cast<__half2*>(&v); }
  __device__ __forceinline__ static uint32_t as_bits(__half2 v) { return *reinterpret_cast<uint32_t*>(&v); }
};

/// Where the code of (row r of the tile, k of the chunk) lies: 32-bit word of the chunk and shift.
/// For 3 bits the third bit lies apart: `third_bit_place`.
template <int kBits>
__device__ __forceinline__ void code_place(int r, int k, int& word, int& shift) {
  const int j = 2 * (k / 32) + (k % 8) / 4, t = (k % 32) / 8, hi = (k % 4) / 2, i = k % 2;
  const int lane = 4 * (r % 8) + t, reg = (r / 8) + 2 * hi;
  if constexpr (kBits == 4) {
    word = 4 * lane + j;
    shift = 16 * i + 4 * reg;
  } else if constexpr (kBits == 8) {
    word = 128 * (j / 2) + 4 * lane + 2 * (j % 2) + hi;
    shift = 16 * i + 8 * (r / 8);
  } else {
    word = 2 * lane + j / 2;
    shift = 16 * i + 8 * (j % 2) + 2 * reg;
  }
}

__device__ __forceinline__ void third_bit_place(int r, int k, int& word, int& shift) {
  const int j = 2 * (k / 32) + (k % 8) / 4, t = (k % 32) / 8, hi = (k % 4) / 2, i = k % 2;
  word = 64 + 4 * (r % 8) + t;
  shift = 16 * i + 4 * j + (r / 8) + 2 * hi;
}

/// Scales and zeros of one superblock of `k` k.
template <int kBits, int kGroup>
struct GroupTable {
  const uint8_t* scales;
  const uint8_t* zeros;

  __device__ __forceinline__ GroupTable(const uint8_t* superblock, int k) {
    scales = superblock + k * kTileRows * kBits / 8;
    zeros = scales + (k + kGroup - 1) / kGroup * (kTileRows * 2);
  }
  __device__ __forceinline__ float scale(int group, int row) const {
    return __half2float(__ldg(reinterpret_cast<const __half*>(scales) + group * kTileRows + row));
  }
  /// As stored: the true zero is this plus the checkpoint format's offset (1 for "gptq").
  __device__ __forceinline__ int zero(int group, int row) const {
    if constexpr (kBits == 8) return __ldg(zeros + group * kTileRows + row);
    return (__ldg(zeros + group * (kTileRows / 2) + row / 2) >> (4 * (row & 1))) & 15;
  }
};

}  // namespace exllama
