// The products of linear_chain.cu: four bits by sixteen, exact.
//
// The tensor cores have eight columns and there is one token. So x is written as two digits of eight bits, with one factor for each
// span of 128 k, and two columns are its high and its low digits. Products of bytes need one mask per eight codes and nothing
// else: row g has the low four bits of bytes; row g + 8 has whole bytes, which are its codes times sixteen and those of row g, whose sum
// is known. All sums are exact: of x no more is lost than 2^-16 of the largest in its span. Four spans have two columns each, and a lane
// has x of its column's span only: all four are multiplied by it, each into sums of its own, of which only its own columns count.
// So x is loaded once for 512 k, and lane 4 g + t finishes span t of rows g and g + 8.
#pragma once

#include "linear_chain_packets.cuh"

namespace exllama {

/// Loads from shared memory by 32-bit addresses, which take half of the registers that pointers do.
__device__ __forceinline__ uint4 load_16(uint32_t at) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(at));
  return v;
}
__device__ __forceinline__ float load_half(uint32_t at) {
  uint16_t v;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(at));
  return __half2float(__ushort_as_half(v));
}
__device__ __forceinline__ uint32_t load_byte(uint32_t at) {
  uint32_t v;
  asm volatile("ld.shared.u8 %0, [%1];" : "=r"(v) : "r"(at));
  return v;
}
__device__ __forceinline__ int2 load_ints(uint32_t at) {
  int2 v;
  asm volatile("ld.shared.v2.s32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(at));
  return v;
}

/// c[16 x 8] += a[16 x 32] * b[32 x 8], bytes without and with a sign, exact. With g = lane / 4, t = lane % 4:
///   a[0] row g, k 4t .. 4t + 3    a[1] row g + 8    a[2], a[3] the same rows, k + 16
///   b[0] column g, k 4t .. 4t + 3    b[1] k + 16    c as in mma_16x8x16()
__device__ __forceinline__ void multiply_bytes(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// What a warp multiplies at a time, out of the ring: 16 rows by 512 k, as they are stored. A lane has the codes of all four spans, and
/// what belongs to span t of rows g and g + 8.
template <int kBits, int kGroup>
struct ChainUnit {
  static_assert(kBits == 4 && kGroup == kSpan && kUnit == 4 * kSpan, "codes of four bits in groups of a span, a unit of four");
  using L = Layout<kBits, kGroup>;
  static constexpr int kSpans = kUnit / kSpan, kChunks = kSpan / kChunk;

  uint4 codes[kSpans * kChunks] = {};
  float scale = 0.f, scale_8 = 0.f;
  int zero = 0, zero_16 = 0;  // of codes times sixteen
  bool is_there = false;

  /// From half number `half` of a superblock of `sb_k`, which is then no more needed by this warp.
  __device__ __forceinline__ void take(uint32_t superblock, int sb_k, int half, uint64_t* empty, int lane) {
    const unsigned g = lane / 4, t = lane % 4, zero_shift = 4 * (g & 1);
    const uint32_t own = superblock + half * (kUnit / kChunk * L::kChunkBytes) + lane * 16;
#pragma unroll
    for (int i = 0; i < kSpans * kChunks; ++i) codes[i] = load_16(own + i * L::kChunkBytes);
    const uint32_t table = superblock + sb_k * (kTileRows * kBits / 8), span = half * kSpans + t;
    const uint32_t scales = table + span * L::kScaleBytes + g * 2, zeros = table + sb_k / kGroup * L::kScaleBytes + span * L::kZeroBytes + g / 2;
    zero = load_byte(zeros) >> zero_shift & 15u, zero_16 = load_byte(zeros + 4) << (4 - zero_shift) & 0xf0u;
    scale = load_half(scales), scale_8 = load_half(scales + 16);
    __syncwarp();
    if (lane == 0) barrier_arrive(empty);
  }
};

/// Takes a warp's first unit of a linear, if it has arrived, while x is on its way: the ring has room for more then.
template <int kBits, int kGroup>
__device__ __forceinline__ void take_first(ChainUnit<kBits, kGroup>& unit, const ChainBuffers& p, const ChainShared<kBits, kGroup>& shared,
                                           const ChainShare& share, int k, int place, int warp, int lane) {
  const int at = warp / 2, pieces = share.pieces << share.paired;
  if (unit.is_there || at >= share.all()) return;
  const int round = rounds_of(p, place + at), stage = place + at - round * p.stages;
  const uint32_t memory = shared_address(shared.full);
  if (!__all_sync(0xffffffffu, barrier_is_past(memory + ((round & 1) * kMostChainStages + stage) * 8, round >> 1 & 1))) return;
  // Only the last one of a tile may be shorter.
  const int superblock = k % kSuperblock == 0 ? 0 : (at >= pieces ? at - pieces : share.first_piece + (at >> share.paired)) % share.superblocks;
  const uint32_t codes = memory + kChainHeadBytes + stage * ChainShared<kBits, kGroup>::kStageBytes;
  unit.take(codes, min(kSuperblock, k - superblock * kSuperblock), warp & 1, shared.empty + stage, lane);
  unit.is_there = true;
}

/// Whether a warp receives sums of a part left over: the last half of them do.
__device__ __forceinline__ bool gets_pieces(const ChainShare& share, int warp) { return share.has_divided && warp >= kChainWarps / 2; }

/// How many packets of them there are, [units][1 or 2 tiles][kTileRows]; which one is this thread's first, of two at a time; and where they come in.
__device__ __forceinline__ int pieces_of(const ChainShare& share) { return (2 * share.superblocks << share.paired) * kTileRows; }
__device__ __forceinline__ int first_piece_of_thread() { return 2 * (threadIdx.x - kChainThreads / 2); }
__device__ __forceinline__ const uint64_t* place_of_pieces(const ChainBuffers& p, const ChainShare& share) {
  return p.pieces + share.block * pieces_of(share);
}

/// All of the block's superblocks of one linear: partial sums, two of each superblock, into shared memory or, of pieces, to the block whose
/// part they are of. `place` is where the first superblock is in the ring: stages, of four rounds. A warp takes the first or the second half of
/// every eighth, the first of which it may have. A span that is not there (k ends before) is computed from whatever lies behind, and dropped
/// with its columns. Before the last unit of a warp a first look is taken at what it shall receive of a part left over. @returns these packets
template <int kBits, int kGroup>
__device__ __forceinline__ uint4 chain_products(ChainUnit<kBits, kGroup>& unit, const ChainBuffers& p, const ChainShared<kBits, kGroup>& shared,
                                                const ChainShare& share, int k, int place, uint32_t epoch, int warp, int lane) {
  constexpr int kStep = kChainWarps / 2, kSpans = kUnit / kSpan, kChunks = kSpan / kChunk, kSpanBytes = sizeof(ChainSpan);
  constexpr uint32_t kEven = 0x0f0f0f0fu;  // codes of row g
  const uint32_t memory = settled(shared_address(shared.full));  // where the block's shared memory begins, and the full barriers
  const unsigned g = lane / 4, t = lane % 4;
  const int half = warp & 1, pieces = share.pieces << share.paired, all = share.all(), stages = p.stages;
  // Even columns of x are high digits, odd ones low.
  const uint32_t x_lane = memory + p.x_at + (g & 1) * p.x_pitch + half * kUnit + g / 2 * kSpan + t * 16;
  const uint32_t span_lane = memory + p.spans_at + (half * kSpans + t) * kSpanBytes;
  int at = warp / 2, of_tile = at - pieces;
  int round = rounds_of(p, place + at), stage = place + at - round * stages;
  uint4 ahead = make_uint4(0, 0, 0, 0);
#pragma unroll 1
  for (; at < all; at += kStep, of_tile += kStep, stage += kStep) {
    if (stage >= stages) stage -= stages, ++round;
#pragma unroll 1
    while (of_tile >= share.superblocks) of_tile -= share.superblocks;
    const int superblock = at >= pieces ? of_tile : (share.first_piece + (at >> share.paired)) % share.superblocks;
    const uint32_t x_at = x_lane + superblock * kSuperblock;
    const int2 span = load_ints(span_lane + superblock * (kSuperblock / kSpan * kSpanBytes));  // factor of x, sum of x
    const int sb_k = min(kSuperblock, k - superblock * kSuperblock);
    if (at + kStep >= all && gets_pieces(share, warp) && first_piece_of_thread() < pieces_of(share))
      ahead = look(place_of_pieces(p, share) + first_piece_of_thread());
    if (!unit.is_there) {
      barrier_wait(memory + ((round & 1) * kMostChainStages + stage) * 8, round >> 1 & 1);
      unit.take(memory + kChainHeadBytes + stage * ChainShared<kBits, kGroup>::kStageBytes, sb_k, half, shared.empty + stage, lane);
    }
    unit.is_there = false;
    int dot[kSpans][4] = {};
    uint4 x[kChunks];
#pragma unroll
    for (int c = 0; c < kChunks; ++c) x[c] = load_16(x_at + c * kChunk);
#pragma unroll
    for (int s = 0; s < kSpans; ++s) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const uint4& q = unit.codes[s * kChunks + c];
        multiply_bytes(dot[s], q.x & kEven, q.x, q.y & kEven, q.y, x[c].x, x[c].y);
        multiply_bytes(dot[s], q.z & kEven, q.z, q.w & kEven, q.w, x[c].z, x[c].w);
      }
    }
    const float factor = __int_as_float(span.x);
    // Sixteen bits times four bits, 128 times: exact in 32.
    const auto own = [&](int i) { return t < 2 ? t == 0 ? dot[0][i] : dot[1][i] : t == 2 ? dot[2][i] : dot[3][i]; };
    const int low_codes = own(0) * 256 + own(1), both_codes = own(2) * 256 + own(3);
    float sum = static_cast<float>(low_codes - unit.zero * span.y) * (unit.scale * factor);
    float sum_8 = static_cast<float>(both_codes - low_codes - unit.zero_16 * span.y) * (unit.scale_8 * factor * (1.f / 16));
    if ((half * kSpans + static_cast<int>(t)) * kSpan >= sb_k) sum = sum_8 = 0.f;
#pragma unroll
    for (int step = 1; step < 4; step <<= 1) {
      sum += __shfl_xor_sync(0xffffffffu, sum, step);
      sum_8 += __shfl_xor_sync(0xffffffffu, sum_8, step);
    }
    if (t == 0) {
      if (at < pieces) {
        const int unit = 2 * share.first_piece + (at >> share.paired) * 2 + half;
        uint64_t* to = p.pieces + ((unit << share.paired) + (at & share.paired)) * kTileRows + g;
        send(to, __float_as_uint(sum), epoch), send(to + 8, __float_as_uint(sum_8), epoch);
      } else {
        float* to = shared.partial + (2 * (at - pieces) + half) * kTileRows + g;
        to[0] = sum, to[8] = sum_8;
      }
    }
  }
  return ahead;
}

}  // namespace exllama
