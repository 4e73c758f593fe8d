// What one token goes through between two attentions, in one launch: o, gate and up, down, and the
// next layer's q, k, v, each by all blocks, meeting in between.
//
//   r += o(attention)        h = silu(gate(norm(r))) * up(norm(r))
//   r += down(h)             q, k, v = next(next_norm(r))
//
// Strategy   One block per multiprocessor, all of them running at once (a cooperative launch), so that
//            blocks may wait for each other. A warp does nothing but have the copy engine bring
//            superblock after superblock of the block's row tiles into a ring, straight through from
//            one linear to the next: memory works while blocks meet, and fills the ring while
//            attention ahead runs. Of its copies only as many are under way at a time as keep memory
//            busy: every other load of a multiprocessor waits behind those it has asked for before. Sixteen warps each take units of 512 k of one row tile,
//            independent of each other until the end of a linear; then their sums are added, in the
//            order of k, whichever warp made them. A warp comes to every eighth superblock only, and copies
//            may arrive in another order than they were asked for: with one barrier for each stage it could
//            take the round before last for its own. So even and odd rounds have barriers of their own: when
//            a warp waits for superblock s it has had s - 8 or what lies before this linear, hence s - stages
//            has been asked for, hence s - 2 * stages has been there.
//            Row tiles are dealt out whole; where that leaves too much to some blocks, the superblocks of those
//            left over are dealt out to all, who send their sums to the block that has the tile.
//            Results travel in packets of eight bytes, value and epoch, stored and loaded as one: who
//            reads an epoch that is this launch's has the value. So nobody counts arrivals, no fence
//            is needed, and a meeting costs one way to L2 and one back. A buffer of packets is written
//            again only by blocks that have had the packets of the meeting after it, which nobody sends
//            before having read all of this one; a block that sends nothing reads nothing.
//            The tensor cores have eight columns and there is one token: x is written as two digits of
//            eight bits, with one factor for each span of 128 k, and columns 0 and 1 are its high and its
//            low digits. Products of bytes then need two masks per eight codes and nothing else (0x0f
//            for row g, 0xf0 for row g + 8, whose sums are sixteen times as large), and their sums are exact:
//            of x no more is lost than 2^-16 of the largest in its span. RMSNorm's common factor is left
//            to the results, so that a block does not meet for it.
// Layout     quantized.cuh
// Limits     one token; sm_90 and later; every k a multiple of 128, hidden <= 8192, all outputs multiples
//            of 16, hidden % 64 == 0; inputs in their own order; shared memory by chainLaunch() in
//            src/backend/cuda/chain-launch.ts
// Reference  the same linears by linear_stream.cu, one launch each
#include "linear_chain.cuh"

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

namespace exllama {

/// Polls until a packet would have arrived ten times over: then something is wrong with the launch.
constexpr unsigned kMostPolls = 1u << 25;

/// What the largest x of a span becomes: its high digit is 127.
constexpr float kMostDigits = 32512.f;

__device__ __forceinline__ void meet_chain() { asm volatile("bar.sync 1, %0;" ::"n"(kChainThreads) : "memory"); }

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
    if (++polls > kMostPolls) __trap();
  }
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

/// Four k of x, one after the other, as this lane's part of a span: turned into sixteen bits each with a factor that the span
/// has in common, high and low digit apart, in the order of the codes. All lanes take part.
template <int kBits, int kGroup>
__device__ __forceinline__ void place_x(const ChainParams& p, const ChainShared<kBits, kGroup>& shared, int span, int lane, float4 v) {
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

/// x of o: what attention left.
template <int kBits, int kGroup>
__device__ __forceinline__ void stage_attention(const ChainParams& p, const ChainShared<kBits, kGroup>& shared, int warp, int lane) {
  constexpr int kBatch = 2;
  const int spans = p.linears[kOutput].k / kSpan;
#pragma unroll 1
  for (int base = warp; base < spans; base += kChainWarps * kBatch) {
    uint2 words[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b)
      if (base + b * kChainWarps < spans) words[b] = reinterpret_cast<const uint2*>(p.attention)[(base + b * kChainWarps) * 32 + lane];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int span = base + b * kChainWarps;
      if (span < spans) place_x(p, shared, span, lane, four_halves(words[b].x, words[b].y));
    }
  }
}

/// The packets that await_packets() looks at for a warp's spans: four of each span, one for each 32 k.
constexpr int kAsked = 4;

/// x of down: silu(gate) * up of all blocks.
template <int kBits, int kGroup>
__device__ __forceinline__ void stage_gated(const ChainParams& p, const ChainShared<kBits, kGroup>& shared, uint32_t epoch, int warp,
                                            int lane) {
  constexpr int kBatch = 5;
  const int spans = p.linears[kDown].k / kSpan;
#pragma unroll 1
  for (int base = warp; base < spans; base += kChainWarps * kBatch) {
    const int asked = base + lane / kAsked * kChainWarps;
    await_packets(lane < kAsked * kBatch && asked < spans ? p.gated + asked * (kSpan / 2) + lane % kAsked * (kSpan / 2 / kAsked) : nullptr, epoch);
    uint4 v[kBatch];
    for (bool all = false; !all;) {
      all = true;
#pragma unroll
      for (int b = 0; b < kBatch; ++b)
        if (base + b * kChainWarps < spans) v[b] = look(p.gated + ((base + b * kChainWarps) * 32 + lane) * 2);
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
__device__ __forceinline__ void stage_normed(const ChainParams& p, const ChainShared<kBits, kGroup>& shared, const __half* norm, int k,
                                             uint32_t epoch, int warp, int lane) {
  constexpr int kBatch = 2;
  const int spans = k / kSpan;
  float squares = 0.f;
#pragma unroll 1
  for (int base = warp; base < spans; base += kChainWarps * kBatch) {
    const int asked = base + lane / kAsked * kChainWarps;
    uint2 factors[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b)
      if (base + b * kChainWarps < spans) factors[b] = __ldg(reinterpret_cast<const uint2*>(norm) + (base + b * kChainWarps) * 32 + lane);
    await_packets(lane < kAsked * kBatch && asked < spans ? p.sums + asked * kSpan + lane % kAsked * (kSpan / kAsked) : nullptr, epoch);
    uint4 v[kBatch][2];
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

/// All of the block's superblocks of one linear: partial sums into shared memory, two of each superblock. `base` counts superblocks of
/// the launch. A warp takes the first or the second half of every eighth.
///
/// The four spans of such a unit have two columns each, and x is zero in a span's columns but for its own: so all products go to the
/// same sums, and when they are made lane 4 g + t finishes span t of rows g and g + 8. A span that is not there
/// (k ends before) is computed from whatever lies behind, and dropped with its columns.
template <int kBits, int kGroup>
__device__ __forceinline__ void chain_products(const ChainParams& p, const ChainShared<kBits, kGroup>& shared, const ChainShare& share, int k,
                                               int base, int warp, int lane) {
  static_assert(kBits == 4 && kGroup == kSpan && kUnit == 4 * kSpan, "codes of four bits in groups of a span, a unit of four");
  using L = Layout<kBits, kGroup>;
  constexpr int kStep = kChainWarps / 2, kSpans = kUnit / kSpan, kChunks = kSpan / kChunk, kSpanBytes = sizeof(ChainSpan);
  constexpr uint32_t kEven = 0x0f0f0f0fu, kOdd = 0xf0f0f0f0u;  // codes of row g, and sixteen times those of row g + 8
  const uint32_t memory = settled(shared_address(shared.full));  // where the block's shared memory begins, and the full barriers
  const unsigned g = lane / 4, t = lane % 4, zero_shift = 4 * (g & 1);
  const int half = warp & 1, whole = share.whole(), all = share.all(), stages = p.stages;
  // Even columns of x are high digits, odd ones low.
  const uint32_t x_lane = memory + p.x_at + (g & 1) * p.x_pitch + half * kUnit + t * 16;
  const uint32_t nothing = memory + kChainHeadBytes - kChainZeroBytes + t * 16;
  const uint32_t span_lane = memory + p.spans_at + (half * kSpans + t) * kSpanBytes;
  const uint32_t codes_lane = memory + kChainHeadBytes + half * (kUnit / kChunk * L::kChunkBytes) + lane * 16;
  const uint32_t scales_lane = (half * kSpans + t) * L::kScaleBytes + g * 2, zeros_lane = (half * kSpans + t) * L::kZeroBytes + g / 2;
  int at = warp / 2, of_tile = at;
  int round = (base + at) * p.stage_magic >> 20, stage = base + at - round * stages;
#pragma unroll 1
  for (; at < all; at += kStep, of_tile += kStep, stage += kStep) {
    if (stage >= stages) stage -= stages, ++round;
#pragma unroll 1
    while (of_tile >= share.superblocks) of_tile -= share.superblocks;
    const int superblock = at < whole ? of_tile : (share.first_piece + (at - whole >> share.paired)) % share.superblocks;
    const uint32_t x_at = x_lane + superblock * kSuperblock;
    const int2 span = load_ints(span_lane + superblock * (kSuperblock / kSpan * kSpanBytes));  // factor of x, sum of x
    const int sb_k = min(kSuperblock, k - superblock * kSuperblock);
    const uint32_t codes = codes_lane + stage * ChainShared<kBits, kGroup>::kStageBytes;
    const uint32_t table = memory + kChainHeadBytes + stage * ChainShared<kBits, kGroup>::kStageBytes + sb_k * (kTileRows * kBits / 8);
    int dot[2 * kChunks][4] = {};
    barrier_wait(memory + ((round & 1) * kMostChainStages + stage) * 8, round >> 1 & 1);
#pragma unroll
    for (int s = 0; s < kSpans; ++s) {
      const uint32_t x_span = g / 2 == s ? x_at + s * kSpan : nothing;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const uint4 q = load_16(codes + (s * kChunks + c) * L::kChunkBytes), x = load_16(x_span + c * kChunk);
        multiply_bytes(dot[s % 2 * kChunks + c], q.x & kEven, q.x & kOdd, q.y & kEven, q.y & kOdd, x.x, x.y);
        multiply_bytes(dot[s % 2 * kChunks + c], q.z & kEven, q.z & kOdd, q.w & kEven, q.w & kOdd, x.z, x.w);
      }
    }
    const uint32_t zeros = table + sb_k / kGroup * L::kScaleBytes + zeros_lane;
    const int zero = load_byte(zeros) >> zero_shift & 15u, zero_16 = load_byte(zeros + 4) << (4 - zero_shift) & 0xf0u;
    const float factor = __int_as_float(span.x);
    const float scale = load_half(table + scales_lane) * factor, scale_8 = load_half(table + scales_lane + 16) * factor;
    __syncwarp();
    if (lane == 0) barrier_arrive(shared.empty + stage);
    // Sixteen bits times four bits, 128 times: exact in 32.
    const auto chains = [&](int i) { return dot[0][i] + dot[1][i] + (dot[2][i] + dot[3][i]); };
    const int high = chains(0), low = chains(1), high_8 = chains(2), low_8 = chains(3);
    float sum = static_cast<float>(high * 256 + low - zero * span.y) * scale;
    float sum_8 = static_cast<float>(high_8 * 256 + low_8 - zero_16 * span.y) * (scale_8 * (1.f / 16));
    if ((half * kSpans + static_cast<int>(t)) * kSpan >= sb_k) sum = sum_8 = 0.f;
#pragma unroll
    for (int step = 1; step < 4; step <<= 1) {
      sum += __shfl_xor_sync(0xffffffffu, sum, step);
      sum_8 += __shfl_xor_sync(0xffffffffu, sum_8, step);
    }
    if (t == 0) {
      float* to = shared.partial + (2 * at + half) * kTileRows + g;
      to[0] = sum, to[8] = sum_8;
    }
  }
  meet_chain();
}

/// The sum of `count` numbers `step` apart.
__device__ __forceinline__ float row_sum(const float* from, int step, int count) {
  constexpr int kBatch = 8;
  float sum = 0.f;
#pragma unroll 1
  for (int base = 0; base < count; base += kBatch) {
    float v[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) v[b] = base + b < count ? from[(base + b) * step] : 0.f;
#pragma unroll
    for (int b = 0; b < kBatch; ++b) sum += v[b];
  }
  return sum;
}

/// Packets that blocks send of a part left over, into `to`: [count][kTileRows]. The last half of the warps take part, and meet.
__device__ __forceinline__ void receive_pieces(float* to, const uint64_t* from, int count, uint32_t epoch) {
  constexpr int kThreads = kChainThreads / 2;
#pragma unroll 1
  for (int i = threadIdx.x - kThreads; i < count * kTileRows; i += kThreads) {
    uint64_t packet;
    unsigned polls = 0;
#pragma unroll 1
    do {
      asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(packet) : "l"(from + i) : "memory");
      if (++polls > kMostPolls) __trap();
    } while (static_cast<uint32_t>(packet >> 32) != epoch);
    to[i] = __uint_as_float(static_cast<uint32_t>(packet));
  }
  asm volatile("bar.sync 2, %0;" ::"n"(kThreads) : "memory");
}

__device__ __forceinline__ float bias_of(const __half* bias, int n) { return bias == nullptr ? 0.f : __half2float(__ldg(bias + n)); }

/// What becomes of one linear's sums, which are in shared memory.
template <typename Shared>
__device__ __forceinline__ void chain_results(const ChainParams& p, const Shared& shared, int linear) {
  const int lane = settled(threadIdx.x % kWarp);
  const ChainWeights& w = p.linears[linear];
  const ChainShare share(w, linear == kGateUp, settled(blockIdx.x));
  const uint32_t epoch = *shared.epoch;
  const bool normed = linear == kGateUp || linear == kNext;
  const float scale = normed ? norm_factor(shared, w.k, linear == kNext ? p.next_eps : p.eps) : 1.f;
  const int row = threadIdx.x % kTileRows, whole = share.whole();
  // Somebody waits for pieces: they come first.
#pragma unroll 1
  for (int i = threadIdx.x; i < (share.pieces << share.paired) * kTileRows; i += kChainThreads) {
    const float sum = row_sum(shared.partial + 2 * (whole + i / kTileRows) * kTileRows + row, kTileRows, 2);
    send(p.pieces + (share.first_piece << share.paired) * kTileRows + i, __float_as_uint(sum * scale), epoch + kPieces + linear);
  }
  // A half warp has the rows of a tile: the sums of `count` numbers `step` apart; up's lie behind gate's.
  const auto result = [&](int t, const float* from, int step, int count, float scale) {
    const int part = share.part(t);
    const float first = row_sum(from, step, count) * scale;
    if (linear == kGateUp) {
      const int n = part * kTileRows + row;
      const float second = row_sum(from + (step > kTileRows ? kTileRows : count * kTileRows), step, count) * scale;
      const float gate = first + bias_of(w.bias0, n), up = second + bias_of(w.bias1, n), y = up * (gate / (1.f + __expf(-gate)));
      const float other = __shfl_xor_sync(0xffffu << (lane & 16), y, 1);
      if (row % 2 == 0) send(p.gated + n / 2, half_pair(y, other), epoch + kGated);
    } else if (linear == kNext) {
      const ChainTile place(w, false, part, 0);
      const int n = place.tile * kTileRows + row;
      place.pick(p.y0, p.y1, p.y2)[n] = __float2half_rn(first + bias_of(place.pick(w.bias0, w.bias1, w.bias2), n));
    } else {
      const int n = part * kTileRows + row;
      float& kept = shared.kept[t * kTileRows + row];
      kept += first + bias_of(w.bias0, n);
      if (linear == kOutput || p.count > kNext) send(p.sums + n, __float_as_uint(kept), epoch + (linear == kOutput ? kAfterOutput : kAfterDown));
      if (linear == kDown) p.residual[n] = kept;
    }
  };
  const int count = 2 * share.superblocks;
#pragma unroll 1
  for (int t = threadIdx.x / kTileRows; t < share.parts; t += kChainThreads / kTileRows)
    result(t, shared.partial + (t << share.paired) * count * kTileRows + row, kTileRows, count, scale);
  if (share.has_divided && threadIdx.x >= kChainThreads / 2) {
    float* pieces = shared.partial + 2 * share.all() * kTileRows;
    const int parts = share.superblocks << share.paired;
    receive_pieces(pieces, p.pieces + share.block * parts * kTileRows, parts, epoch + kPieces + linear);
    // Gate's and up's take turns.
    if (threadIdx.x >= kChainThreads - kTileRows) result(share.each, pieces + row, kTileRows << share.paired, share.superblocks, 1.f);
  }
}

/// A copy's stage of the ring, and how often the ring has gone round.
struct ChainRingPlace {
  int stage, round;
  __device__ __forceinline__ void next(int stages) {
    if (++stage == stages) stage = 0, ++round;
  }
  /// `count` copies earlier, fewer than there are stages; before the first copy the round is negative.
  __device__ __forceinline__ ChainRingPlace before(int count, int stages) const {
    return stage >= count ? ChainRingPlace{stage - count, round} : ChainRingPlace{stage - count + stages, round - 1};
  }
  __device__ __forceinline__ unsigned full() const { return (round & 1) * kMostChainStages + stage; }
};

/// Has the copy engine bring all of the block's tiles.
template <int kBits, int kGroup>
__device__ __forceinline__ void chain_copies(const ChainParams& p, const ChainShared<kBits, kGroup>& shared) {
  using L = Layout<kBits, kGroup>;
  constexpr int kFull = L::superblock_bytes(kSuperblock);
  const uint64_t policy = evict_first_policy();
  ChainRingPlace at = {0, 0};
#pragma unroll 1
  for (int linear = 0; linear < p.count; ++linear) {
    const ChainWeights& w = p.linears[linear];
    const ChainShare share(w, linear == kGateUp);
    const size_t tile_bytes = L::tile_bytes(w.k);
    const int superblocks = share.superblocks, last_bytes = static_cast<int>(tile_bytes - size_t(superblocks - 1) * kFull);
    const auto begin_of = [&](int part, int of_pair) {
      const ChainTile tile(w, share.paired, part, of_pair);
      return tile.pick(w.weights0, w.weights1, w.weights2) + size_t(tile.tile) * tile_bytes;
    };
    const auto copy = [&](const uint8_t* from, int bytes) {
      barrier_wait(shared.empty + at.stage, at.round & 1 ^ 1);
      const ChainRingPlace landed = at.before(p.flying, p.stages);
      if (landed.round >= 0) barrier_wait(shared.full + landed.full(), landed.round >> 1 & 1);
      copy_bulk(shared.ring + at.stage * ChainShared<kBits, kGroup>::kStageBytes, from, bytes, shared.full + at.full(), policy);
      at.next(p.stages);
    };
    const int tiles = share.parts << share.paired, pieces = share.pieces << share.paired;
#pragma unroll 1
    for (int t = 0; t < tiles; ++t) {
      const uint8_t* from = begin_of(share.part(t >> share.paired), t & share.paired);
#pragma unroll 1
      for (int left = superblocks - 1; left >= 0; --left, from += kFull) copy(from, left == 0 ? last_bytes : kFull);
    }
#pragma unroll 1
    for (int i = 0; i < pieces; ++i) {
      const int piece = share.first_piece + (i >> share.paired), part = piece / superblocks, superblock = piece - part * superblocks;
      copy(begin_of(share.left_over + part, i & share.paired) + size_t(superblock) * kFull, superblock + 1 == superblocks ? last_bytes : kFull);
    }
  }
}

template <int kBits, int kGroup>
__device__ __forceinline__ void linear_chain_body(const ChainParams& p, uint8_t* dynamic_shared) {
  const ChainShared<kBits, kGroup> shared(dynamic_shared, p);
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / kWarp, 0), lane = threadIdx.x % kWarp;
  allow_next();
  if (threadIdx.x < kChainZeroBytes / 4) reinterpret_cast<uint32_t*>(dynamic_shared + kChainHeadBytes - kChainZeroBytes)[threadIdx.x] = 0;
  if (threadIdx.x == 0) {
    for (int s = 0; s < p.stages; ++s) {
      barrier_init(shared.full + s, 1);
      barrier_init(shared.full + kMostChainStages + s, 1);
      barrier_init(shared.empty + s, 2);
    }
    barrier_init_done();
  }
  __syncthreads();
  if (warp == kChainWarps) {
    if (lane != 0) return;
    chain_copies(p, shared);
    return;
  }
  if (threadIdx.x == kWarp)
    for (int linear = 0, base = 0; linear < p.count; ++linear) {
      shared.bases[linear] = base;
      base += ChainShare(p.linears[linear], linear == kGateUp).all();
    }
  wait_previous();
  const uint32_t launches = p.epochs[blockIdx.x];
  {
    // The parts of o are those of down: who added the first to the residual stream adds the second.
    const ChainWeights& o = p.linears[kOutput];
    const ChainShare share(o, false);
    const bool mine = threadIdx.x < (share.each + (share.block < o.more)) * kTileRows;
    const float residual = mine ? p.residual[share.part(threadIdx.x / kTileRows) * kTileRows + threadIdx.x % kTileRows] : 0.f;
    stage_attention(p, shared, warp, lane);
    if (mine) shared.kept[threadIdx.x] = residual;
    if (threadIdx.x == 0) *shared.epoch = kChainEpochs * launches + 1;
  }
#pragma unroll 1
  for (int linear = 0; linear < p.count; ++linear) {
    const int lane = settled(threadIdx.x % kWarp);  // nothing that follows from it is kept in registers from linear to linear
    const ChainWeights& w = p.linears[linear];
    const ChainShare share(w, linear == kGateUp);
    // Who has nothing to do here may not wait for x either: nobody would wait for this block before sending the next packets.
    if (linear != kOutput && share.parts + share.pieces + share.has_divided == 0) continue;
    if (linear == kGateUp) stage_normed(p, shared, p.norm, w.k, *shared.epoch + kAfterOutput, warp, lane);
    else if (linear == kDown) stage_gated(p, shared, *shared.epoch + kGated, warp, lane);
    else if (linear == kNext) stage_normed(p, shared, p.next_norm, w.k, *shared.epoch + kAfterDown, warp, lane);
    meet_chain();
    chain_products<kBits, kGroup>(p, shared, share, w.k, shared.bases[linear], warp, lane);
    chain_results(p, shared, linear);
  }
  if (threadIdx.x == 0) p.epochs[blockIdx.x] = *shared.epoch / kChainEpochs + 1;
}

}  // namespace exllama

#define EXLLAMA_CHAIN(BITS, GROUP)                                                             \
  extern "C" __global__ void __launch_bounds__(exllama::kChainThreads + exllama::kWarp, 1)     \
      linear_chain_q##BITS##_g##GROUP(const __grid_constant__ exllama::ChainParams p) {        \
    extern __shared__ __align__(128) uint8_t dynamic_shared[];                                 \
    exllama::linear_chain_body<BITS, GROUP>(p, dynamic_shared);                                \
  }
EXLLAMA_CHAIN(4, 128)

#endif
