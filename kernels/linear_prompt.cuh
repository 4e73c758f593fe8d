// Codes of four bits as operand A of warpgroup products, for linear_prompt.cu: from the order of quantized.cuh in
// device memory to fragments in registers, and the products that take them from there.
//
// A lane of a quad (four lanes, t = 0..3) holds eight consecutive k of every 32; the products want pairs of k dealt
// to the quad in turn, so that x can lie in shared memory as it comes: pair P = 4 t + c of a lane's c-th pair goes to lane
// P % 4. That is a 4 x 4 matrix of pairs, transposed in two exchanges, a word each.
#pragma once

#include "quantized.cuh"
#include "wgmma.cuh"

#ifdef EXLLAMA_WGMMA

#define EXLLAMA_SUMS_TEXT_80 \
  EXLLAMA_SUMS_TEXT_64 ", "  \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define EXLLAMA_SUMS_TEXT_96 \
  EXLLAMA_SUMS_TEXT_80 ", "  \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define EXLLAMA_SUMS_TEXT_120                                                                    \
  EXLLAMA_SUMS_TEXT_96 ", "                                                                      \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119"

namespace exllama {

/// d[64 outputs x kN tokens] += a[64 x 16] b[16 x kN]: a in registers as mma_16x8x16 has it, warp w of the group rows
/// 16 w ..; b as wgmma_operand() describes it.
template <int kN>
__device__ __forceinline__ void wgmma_weights(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b);

#define EXLLAMA_WGMMA_WEIGHTS(N, A0, A1, A2, A3, B, SUMS_TEXT, ...)                                                    \
  template <>                                                                                                          \
  __device__ __forceinline__ void wgmma_weights<N>(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b) {            \
    asm volatile(                                                                                                      \
        "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.f16.f16 {" SUMS_TEXT "}, {%" #A0 ", %" #A1 ", %" #A2 ", %" #A3 \
        "}, %" #B ", 1, 1, 1, 0;"                                                                                      \
        : __VA_ARGS__                                                                                                  \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                                         \
  }
EXLLAMA_WGMMA_WEIGHTS(128, 64, 65, 66, 67, 68, EXLLAMA_SUMS_TEXT_64, EXLLAMA_SUMS_64(d, 0))
EXLLAMA_WGMMA_WEIGHTS(160, 80, 81, 82, 83, 84, EXLLAMA_SUMS_TEXT_80, EXLLAMA_SUMS_64(d, 0), EXLLAMA_SUMS_8(d, 64), EXLLAMA_SUMS_8(d, 72))
EXLLAMA_WGMMA_WEIGHTS(192, 96, 97, 98, 99, 100, EXLLAMA_SUMS_TEXT_96, EXLLAMA_SUMS_64(d, 0), EXLLAMA_SUMS_32(d, 64))
EXLLAMA_WGMMA_WEIGHTS(240, 120, 121, 122, 123, 124, EXLLAMA_SUMS_TEXT_120, EXLLAMA_SUMS_64(d, 0), EXLLAMA_SUMS_32(d, 64),
                      EXLLAMA_SUMS_8(d, 96), EXLLAMA_SUMS_8(d, 104), EXLLAMA_SUMS_8(d, 112))
EXLLAMA_WGMMA_WEIGHTS(256, 128, 129, 130, 131, 132, EXLLAMA_SUMS_TEXT_128, EXLLAMA_SUMS_64(d, 0), EXLLAMA_SUMS_64(d, 64))

/// What the i-th of up to three linears that read the same x has.
template <typename T>
__device__ __forceinline__ T of_linear(int i, T first, T second, T third) {
  return i == 0 ? first : i == 1 ? second : third;
}

/// What a lane needs for 64 k of a row tile, as it lies in memory.
template <int kGroup>
struct PackedChunk {
  static constexpr int kGroups = kGroup < kChunk ? kChunk / kGroup : 1;
  uint4 codes;
  uint32_t scales[kGroups][2];  // f16, rows g and g + 8
  uint2 zeros[kGroups];         // of all 16 rows

  /// @param chunk index in a superblock of `k` k
  __device__ __forceinline__ void load(const uint8_t* superblock, int k, int chunk, int lane) {
    constexpr int kZeroBytes = Layout<4, kGroup>::kZeroBytes, kScaleBytes = Layout<4, kGroup>::kScaleBytes;
    codes = load_stream(reinterpret_cast<const uint4*>(superblock + chunk * Layout<4, kGroup>::kChunkBytes) + lane);
    const uint8_t* table = superblock + k * (kTileRows / 2);
    const uint8_t* zero_table = table + (k + kGroup - 1) / kGroup * kScaleBytes;
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      const int group = kGroup < kChunk ? chunk * kGroups + i : chunk / (kGroup / kChunk);
      const uint16_t* of_rows = reinterpret_cast<const uint16_t*>(table + group * kScaleBytes) + lane / 4;
      scales[i][0] = __ldg(of_rows), scales[i][1] = __ldg(of_rows + 8);
      zeros[i] = __ldg(reinterpret_cast<const uint2*>(zero_table + group * kZeroBytes));
    }
  }
};

/// Selectors of byte permutations, by lane.
struct QuadTurn {
  bool upper;  // lanes 2 and 3 of the quad
  uint32_t send, low, high;

  __device__ __forceinline__ explicit QuadTurn(int lane) : upper(lane & 2) {
    const bool odd = lane & 1;
    send = odd ? 0x6420 : 0x7531;
    low = odd ? 0x3514 : 0x5240;
    high = odd ? 0x3716 : 0x7260;
  }

  /// Two words of 32 k as they are stored become those of the first and of the second 16 k in order.
  __device__ __forceinline__ void turn(uint32_t& first, uint32_t& second) const {
    uint32_t other = __shfl_xor_sync(0xffffffffu, upper ? first : second, 2);
    const uint32_t from_lower = upper ? other : first, from_upper = upper ? second : other;
    other = __shfl_xor_sync(0xffffffffu, __byte_perm(from_lower, from_upper, send), 1);
    first = __byte_perm(from_lower, other, low);
    second = __byte_perm(from_upper, other, high);
  }
};

/// Weights of a chunk's first or second 32 k, fragments of two products, as the slabs of expand_* have them:
/// fp16(scale * (code - zero)), rounded once. kOrdered: for x in the order of codes (code_order.cuh).
template <int kGroup, bool kOrdered = false>
__device__ __forceinline__ void unpack_half(const PackedChunk<kGroup>& packed, int half, const QuadTurn& quad, int lane, uint32_t (&a)[2][4]) {
  auto pair = [](uint32_t bits) { return *reinterpret_cast<__half2*>(&bits); };
  auto bits = [](__half2 v) { return *reinterpret_cast<uint32_t*>(&v); };
  auto magic = [](uint32_t q, uint32_t mask) {  // 1024 + the code, or 1024 + 16 times the code
    uint32_t v;
    asm("lop3.b32 %0, %1, %2, 0x64006400, 0xea;" : "=r"(v) : "r"(q), "r"(mask));
    return v;
  };
  const int i = PackedChunk<kGroup>::kGroups == 2 ? half : 0, shift = lane & 28;  // 4 g
  const __half2 scale_low = pair(__byte_perm(packed.scales[i][0], 0, 0x1010)), scale_high = pair(__byte_perm(packed.scales[i][1], 0, 0x1010));
  const __half2 zero_low = pair((packed.zeros[i].x >> shift & 15) * 0x00010001u + 0x64006400u);   // 1024 + zero
  const __half2 zero_high = pair((packed.zeros[i].y >> shift & 15) * 0x00100010u + 0xd400d400u);  // -64 - zero
  const __half2 sixteenth = pair(0x2c002c00u);
  uint32_t word[2] = {half == 0 ? packed.codes.x : packed.codes.z, half == 0 ? packed.codes.y : packed.codes.w};
  if constexpr (!kOrdered) quad.turn(word[0], word[1]);
#pragma unroll
  for (int kk = 0; kk < 2; ++kk) {
    const uint32_t q = word[kk], r = q >> 8;
    a[kk][0] = bits(__hmul2_rn(__hsub2_rn(pair(magic(q, 0x000f000fu)), zero_low), scale_low));
    a[kk][1] = bits(__hmul2_rn(__hfma2(pair(magic(q, 0x00f000f0u)), sixteenth, zero_high), scale_high));
    a[kk][2] = bits(__hmul2_rn(__hsub2_rn(pair(magic(r, 0x000f000fu)), zero_low), scale_low));
    a[kk][3] = bits(__hmul2_rn(__hfma2(pair(magic(r, 0x00f000f0u)), sixteenth, zero_high), scale_high));
  }
}

// Copies from shared memory ------------------------------------------------------------------------

/// A box from shared memory to a tensor map's place; parts outside of the tensor are dropped.
__device__ __forceinline__ void store_box(const void* map, int x, int y, uint32_t from) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map), "r"(x), "r"(y), "r"(from) : "memory");
}
/// Asks for a box to be brought to L2.
__device__ __forceinline__ void prefetch_box(const void* map, int x, int y) {
  asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global [%0, {%1, %2}];" ::"l"(map), "r"(x), "r"(y) : "memory");
}
/// The same as store_box, added to what is there.
__device__ __forceinline__ void add_box(const void* map, int x, int y, uint32_t from) {
  asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map), "r"(x), "r"(y), "r"(from)
               : "memory");
}
__device__ __forceinline__ void store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Until at most kPending of this thread's newest groups still read shared memory.
template <int kPending>
__device__ __forceinline__ void store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
__device__ __forceinline__ void store_wait_written() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

/// Four 8 x 8 fp16 matrices to shared memory, each transposed: a lane's pair lies in one column.
__device__ __forceinline__ void store_matrix_x4_transposed(uint32_t to, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

}  // namespace exllama

#endif  // EXLLAMA_WGMMA
