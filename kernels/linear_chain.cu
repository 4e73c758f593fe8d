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
//            Results travel in packets of eight bytes, value and epoch, stored and loaded as one: who
//            reads an epoch that is this launch's has the value. So nobody counts arrivals, no fence
//            is needed, and a meeting costs one way to L2 and one back. A buffer of packets is written
//            again only by blocks that have had the packets of the meeting after it, which nobody sends
//            before having read all of this one.
//            Codes go to the tensor cores as in linear_stream.cu.
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

/// Looks until those of all lanes are of this epoch.
__device__ __forceinline__ void receive(uint4& packets, const uint64_t* from, uint32_t epoch) {
#pragma unroll 1
  for (unsigned polls = 0; __any_sync(0xffffffffu, packets.y != epoch || packets.w != epoch); packets = look(from))
    if (++polls > kMostPolls) __trap();
}

__device__ __forceinline__ uint32_t half_pair(float a, float b) {
  const __half2 pair = __floats2half2_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ float2 float_pair(uint32_t word) { return __half22float2(*reinterpret_cast<const __half2*>(&word)); }

/// Sum over `kLanes` neighbouring lanes.
template <int kLanes>
__device__ __forceinline__ float lanes_sum(float v) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step >>= 1) v += __shfl_xor_sync(0xffffffffu, v, step);
  return v;
}

/// Sums of groups of span `span`, of which each lane has four k one after the other.
template <int kGroup>
__device__ __forceinline__ void place_sums(float* x_sum, int span, int lane, uint2 words) {
  const float2 a = float_pair(words.x), b = float_pair(words.y);
  constexpr int kLanes = kGroup / 4;
  const float sum = lanes_sum<kLanes>((a.x + a.y) + (b.x + b.y));
  if (lane % kLanes == 0) x_sum[span * (kSpan / kGroup) + lane / kLanes] = sum;
}

/// x of o: what attention left.
template <int kBits, int kGroup>
__device__ __forceinline__ void stage_attention(const ChainParams& p, const ChainShared<kBits, kGroup>& shared, int warp, int lane) {
#pragma unroll 1
  for (int span = warp; span < p.linears[kOutput].k / kSpan; span += kChainWarps) {
    const int at = span * 32 + lane;
    const uint2 words = reinterpret_cast<const uint2*>(p.attention)[at];
    reinterpret_cast<uint2*>(shared.x)[at] = words;
    place_sums<kGroup>(shared.x_sum, span, lane, words);
  }
}

/// x of down: silu(gate) * up of all blocks.
template <int kBits, int kGroup>
__device__ __forceinline__ void stage_gated(const ChainParams& p, const ChainShared<kBits, kGroup>& shared, uint32_t epoch, int warp,
                                            int lane) {
  constexpr int kBatch = 2;
  const int spans = p.linears[kDown].k / kSpan;
#pragma unroll 1
  for (int base = warp; base < spans; base += kChainWarps * kBatch) {
    uint4 v[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int span = base + b * kChainWarps;
      if (span < spans) v[b] = look(p.gated + (span * 32 + lane) * 2);
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int span = base + b * kChainWarps, at = span * 32 + lane;
      if (span >= spans) break;
      receive(v[b], p.gated + at * 2, epoch);
      const uint2 words = make_uint2(v[b].x, v[b].z);
      reinterpret_cast<uint2*>(shared.x)[at] = words;
      place_sums<kGroup>(shared.x_sum, span, lane, words);
    }
  }
}

/// x of gate and up, or of q, k, v: the residual stream of all blocks, normalised.
template <int kBits, int kGroup>
__device__ __forceinline__ void stage_normed(const ChainParams& p, const ChainShared<kBits, kGroup>& shared, const __half* norm, float eps,
                                             int k, uint32_t epoch, int warp, int lane) {
  constexpr int kMost = 4, kBatch = 1;  // spans of a warp, and of them under way at a time
  const int spans = k / kSpan;
  float v[kMost][4];
  float squares = 0.f;
#pragma unroll
  for (int first = 0; first < kMost; first += kBatch) {
    if (warp + first * kChainWarps >= spans) break;
    uint4 packets[kBatch][2];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int span = warp + (first + b) * kChainWarps, at = span * 32 + lane;
      if (span < spans) packets[b][0] = look(p.sums + at * 4), packets[b][1] = look(p.sums + at * 4 + 2);
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int span = warp + (first + b) * kChainWarps, at = span * 32 + lane;
      if (span >= spans) break;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        receive(packets[b][h], p.sums + at * 4 + 2 * h, epoch);
        v[first + b][2 * h] = __uint_as_float(packets[b][h].x), v[first + b][2 * h + 1] = __uint_as_float(packets[b][h].z);
        squares += v[first + b][2 * h] * v[first + b][2 * h] + v[first + b][2 * h + 1] * v[first + b][2 * h + 1];
      }
    }
  }
  squares = warp_sum(squares);
  if (lane == 0) shared.squares[warp] = squares;
  meet_chain();
  float sum = 0.f;
#pragma unroll
  for (int w = 0; w < kChainWarps; ++w) sum += shared.squares[w];
  const float scale = rsqrtf(sum / static_cast<float>(k) + eps);
#pragma unroll
  for (int b = 0; b < kMost; ++b) {
    const int span = warp + b * kChainWarps;
    if (span >= spans) break;
    const uint2 factors = __ldg(reinterpret_cast<const uint2*>(norm) + span * 32 + lane);
    const float2 f0 = float_pair(factors.x), f1 = float_pair(factors.y);
    const uint2 words = make_uint2(half_pair(v[b][0] * scale * f0.x, v[b][1] * scale * f0.y), half_pair(v[b][2] * scale * f1.x, v[b][3] * scale * f1.y));
    reinterpret_cast<uint2*>(shared.x)[span * 32 + lane] = words;
    place_sums<kGroup>(shared.x_sum, span, lane, words);
  }
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
__device__ __forceinline__ float load_float(uint32_t at) {
  float v;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(at));
  return v;
}

/// Where a span of a lane's tile and x lie in shared memory.
struct ChainPlace {
  uint32_t codes, scales, zeros, x, x_sum;
};

/// The products of one span. Adds to the sums of rows g and g + 8 (of the token in lanes that are multiples of four).
template <int kBits, int kGroup>
__device__ __forceinline__ void chain_span(const ChainPlace& at, int s, unsigned zero_shift, float (&sum)[2]) {
  static_assert(kBits == 4, "codes are loaded as those of four bits");
  using L = Layout<kBits, kGroup>;
  constexpr int kChains = kGroup == kSpan ? 2 : 1, kSteps = kGroup / 32, kGroups = kSpan / kGroup;
  Codes<kBits> codes[2];
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const uint4 v = load_16(at.codes + (2 * s + c) * L::kChunkBytes);
    codes[c].word[0] = v.x, codes[c].word[1] = v.y, codes[c].word[2] = v.z, codes[c].word[3] = v.w;
  }
#pragma unroll
  for (int q = 0; q < kGroups; ++q) {
    float dot[kChains][4] = {};
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int h = q * kSteps + i;
      uint32_t a[2][4];
      codes[h / 2].raw_fragment(2 * (h % 2), a[0]);
      codes[h / 2].raw_fragment(2 * (h % 2) + 1, a[1]);
      const uint4 b = load_16(at.x + s * (kSpan * 2) + h * 64);
      multiply(dot[i * kChains / kSteps], a[0], b.x, b.y);
      multiply(dot[i * kChains / kSteps], a[1], b.z, b.w);
    }
    const int group = s * kGroups + q;
    const float group_sum = load_float(at.x_sum + group * 4);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      constexpr int kOffset = Codes<kBits>::kRawOffset;
      const int factor = Codes<kBits>::raw_factor(r);
      const float scale = load_half(at.scales + group * L::kScaleBytes + 16 * r) * (1.f / factor);
      const uint32_t bits = 0x4b000000u | (load_byte(at.zeros + group * L::kZeroBytes + 4 * r) >> zero_shift & 15u);
      // 2^23 + zero as a float, by its bits; exact in the product, too.
      const float offset = fmaf(__uint_as_float(bits), float(factor), kOffset - 8388608.f * factor);
      float d = dot[0][2 * r];
      if constexpr (kChains > 1) d += dot[1][2 * r];
      sum[r] += scale * fmaf(-offset, group_sum, d);
    }
  }
}

/// All units of one linear that are this block's: partial sums into shared memory.
template <int kBits, int kGroup>
__device__ __forceinline__ void chain_products(const ChainParams& p, const ChainShared<kBits, kGroup>& shared, int tiles, int linear,
                                               int warp, int lane) {
  using L = Layout<kBits, kGroup>;
  const int k = p.linears[linear].k, units = (k + kUnit - 1) / kUnit, superblocks = (k + kSuperblock - 1) / kSuperblock, all = tiles * units;
  int base = 0;  // superblocks of the linears ahead
#pragma unroll 1
  for (int l = 0; l < linear; ++l) base += ChainShare(p.linears[l], l == kGateUp).count * ((p.linears[l].k + kSuperblock - 1) / kSuperblock);
  const unsigned g = lane / 4, zero_shift = 4 * (g & 1);
  const uint32_t ring = shared_address(shared.ring), barriers = shared_address(shared.full);
  int tile = 0, unit = warp;
#pragma unroll 1
  for (int i = warp; i < all; i += kChainWarps, unit += kChainWarps) {
#pragma unroll 1
    while (unit >= units) unit -= units, ++tile;
    const unsigned superblock = base + tile * superblocks + unit / 2;
    const unsigned round = superblock * p.stage_magic >> 20, stage = superblock - round * p.stages;
    const int half = unit & 1, sb_k = min(kSuperblock, k - unit / 2 * kSuperblock);
    const int spans = min(kUnit, sb_k - half * kUnit) / kSpan;
    const uint32_t at = ring + stage * ChainShared<kBits, kGroup>::kStageBytes, table = at + sb_k * (kTileRows * kBits / 8);
    const ChainPlace place = {
        at + half * (kUnit / kChunk * L::kChunkBytes) + lane * 16,
        table + half * (kUnit / kGroup * L::kScaleBytes) + g * 2,
        table + sb_k / kGroup * L::kScaleBytes + half * (kUnit / kGroup * L::kZeroBytes) + g / 2,
        shared_address(shared.x) + lane % 4 * 16 + unit * (kUnit * 2),
        shared_address(shared.x_sum) + unit * (kUnit / kGroup * 4),
    };
    float sum[2] = {};
    barrier_wait(barriers + ((round & 1) * kMostChainStages + stage) * 8, round >> 1 & 1);
#pragma unroll
    for (int s = 0; s < kUnit / kSpan; ++s)
      if (s < spans) chain_span<kBits, kGroup>(place, s, zero_shift, sum);
    __syncwarp();
    if (lane == 0) {
      barrier_arrive(shared.empty + stage);
      if (sb_k <= kUnit) barrier_arrive(shared.empty + stage);  // for the unit that is not there
    }
    if (lane % 4 == 0) {
      float* to = shared.partial + i * kTileRows + g;
      to[0] = sum[0], to[8] = sum[1];
    }
  }
  meet_chain();
}

/// The sum of row `row` of the block's tile number `tile`, in the order of k.
template <typename Shared>
__device__ __forceinline__ float row_sum(const Shared& shared, int tile, int row, int units) {
  const float* from = shared.partial + tile * units * kTileRows + row;
  float sum = 0.f;
#pragma unroll 8
  for (int u = 0; u < units; ++u) sum += from[u * kTileRows];
  return sum;
}

__device__ __forceinline__ float bias_of(const __half* bias, int n) { return bias == nullptr ? 0.f : __half2float(__ldg(bias + n)); }

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
    const bool paired = linear == kGateUp;
    const ChainShare share(w, paired);
    const size_t tile_bytes = L::tile_bytes(w.k);
    const int superblocks = (w.k + kSuperblock - 1) / kSuperblock;
    const int last_bytes = static_cast<int>(tile_bytes - size_t(superblocks - 1) * kFull);
    for (int index = share.first; index < share.first + share.count; ++index) {
      const ChainTile tile(w, paired, index);
      const uint8_t* from = tile.pick(w.weights0, w.weights1, w.weights2) + size_t(tile.tile) * tile_bytes;
      for (int sb = 0; sb < superblocks; ++sb, at.next(p.stages), from += kFull) {
        barrier_wait(shared.empty + at.stage, at.round & 1 ^ 1);
        const ChainRingPlace landed = at.before(p.flying, p.stages);
        if (landed.round >= 0) barrier_wait(shared.full + landed.full(), landed.round >> 1 & 1);
        copy_bulk(shared.ring + at.stage * ChainShared<kBits, kGroup>::kStageBytes, from, sb + 1 == superblocks ? last_bytes : kFull,
                  shared.full + at.full(), policy);
      }
    }
  }
}

template <int kBits, int kGroup>
__device__ __forceinline__ void linear_chain_body(const ChainParams& p, uint8_t* dynamic_shared) {
  const ChainShared<kBits, kGroup> shared(dynamic_shared, p);
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / kWarp, 0), lane = threadIdx.x % kWarp;
  allow_next();
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
  wait_previous();
  if (threadIdx.x == 0) *shared.epoch = 2 * p.epochs[blockIdx.x] + 1;
  // The blocks' rows of o are those of down: who added the first to the residual stream adds the second.
  {
  const ChainShare share(p.linears[kOutput], false);
  if (threadIdx.x < share.count * kTileRows) shared.kept[threadIdx.x] = p.residual[share.first * kTileRows + threadIdx.x];
  }
#pragma unroll 1
  for (int linear = 0; linear < p.count; ++linear) {
    const ChainWeights& w = p.linears[linear];
    const int lane = settled(threadIdx.x % kWarp);  // nothing that follows from it is kept in registers from linear to linear
    const int k = w.k, units = (k + kUnit - 1) / kUnit;
    if (linear == kOutput) stage_attention(p, shared, warp, lane);
    else if (linear == kDown) stage_gated(p, shared, *shared.epoch, warp, lane);
    else stage_normed(p, shared, linear == kGateUp ? p.norm : p.next_norm, linear == kGateUp ? p.eps : p.next_eps, k, *shared.epoch + linear / kNext, warp, lane);
    meet_chain();
    ChainShare tiles(w, linear == kGateUp);
    chain_products<kBits, kGroup>(p, shared, tiles.count, linear, warp, lane);
    tiles = ChainShare(w, linear == kGateUp, settled(blockIdx.x));  // again, in the place of registers
    const uint32_t epoch = *shared.epoch;
    const int row = settled(threadIdx.x) % kTileRows;  // of the results that this thread makes
    if (linear == kGateUp) {
#pragma unroll 1
      for (int i = threadIdx.x; i < tiles.count / 2 * kTileRows; i += kChainThreads) {
        const int pair = i / kTileRows, from = (tiles.first / 2 + pair) * kTileRows + row;
        const float gate = row_sum(shared, 2 * pair, row, units) + bias_of(w.bias0, from);
        const float up = row_sum(shared, 2 * pair + 1, row, units) + bias_of(w.bias1, from);
        const float y = up * (gate / (1.f + __expf(-gate)));
        const float other = __shfl_xor_sync(0xffffu << (lane & 16), y, 1);  // a half warp has the rows of a tile
        if (row % 2 == 0) send(p.gated + from / 2, half_pair(y, other), epoch);
      }
    } else if (linear == kNext) {
#pragma unroll 1
      for (int i = threadIdx.x; i < tiles.count * kTileRows; i += kChainThreads) {
        const ChainTile place(w, false, tiles.first + i / kTileRows);
        const int to = place.tile * kTileRows + row;
        const float y = row_sum(shared, i / kTileRows, row, units) + bias_of(place.pick(w.bias0, w.bias1, w.bias2), to);
        place.pick(p.y0, p.y1, p.y2)[to] = __float2half_rn(y);
      }
    } else if (threadIdx.x < tiles.count * kTileRows) {
      const int n = tiles.first * kTileRows + threadIdx.x;
      const float residual = shared.kept[threadIdx.x] + (row_sum(shared, threadIdx.x / kTileRows, row, units) + bias_of(w.bias0, n));
      if (linear == kOutput || p.count > kNext) send(p.sums + n, __float_as_uint(residual), epoch + linear / kDown);
      if (linear == kDown) p.residual[n] = residual;
      shared.kept[threadIdx.x] = residual;
    }
  }
  if (threadIdx.x == 0) p.epochs[blockIdx.x] = *shared.epoch / 2 + 1;
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
