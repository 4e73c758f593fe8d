// Quantised linears for few tokens, as one stream of weights per multiprocessor.
//
//   y_i[m, n_i] = sum_k x[m, k] * scale * (code - zero)_i[n_i, k]  (+ bias) (+ residual)
//
// for up to three weights that share x (q, k, v), or for gate and up with silu(gate) * up as
// the result. m <= 8 * kColumnTiles.
//
// Strategy   Blocks are few (one or two per multiprocessor) and take equal, contiguous shares of
//            the row tiles. From sm_90 on one warp does nothing but have the copy engine bring
//            superblock after superblock into a ring of stages, beginning before the kernel
//            ahead has ended (weights are nobody's output); eight warps ("a team") read a
//            superblock, warp w the 128 k number w. So the bytes under way are the ring's, not the
//            registers', and memory keeps working while x arrives, while warps meet and while the
//            next kernel starts. With two teams every other superblock of a tile is the other's.
//            Before sm_90 the warps load superblocks into registers themselves.
//            x lies in shared memory, a slab of k at a time if it does not fit: then partial
//            results wait in shared memory. Sums of x over each group, for the zero points, are
//            made once while staging, and so may be RMSNorm where x is the residual stream: every
//            block then normalises all of x for itself, which costs less than a launch for one or
//            two tokens, and more from three on.
//            Weights are operand A of mma.m16n8k16 (16 outputs), x operand B (8 tokens). Codes of four
//            bits go in as 1024 + code; the offset leaves with the zero point, in fp32. Each group's
//            fp32 sum is scaled once, warps' sums are added in the order of the warps: which block
//            computes a tile changes no bit.
// Layout     quantized.cuh
// Limits     k % 64 == 0 after padding, 16-byte aligned rows of x; shared memory by streamLaunch()
//            in src/backend/cuda/linears/linear-launch.ts
// Reference  linear_quantized_ref
#include "linear_stream_input.cuh"

namespace exllama {

/// Scales of one group and lane: rows g and g + 8. A group adds scale * dot - shift * (sum of x), where dot is
/// the product with what raw_fragment() makes of the codes. Both are exact in fp32.
struct RowScales {
  float scale[2], shift[2];
};

/// Where a lane's part of a superblock lies, as far as that does not depend on the superblock.
template <int kBits, int kGroup>
struct LanePlace {
  using L = Layout<kBits, kGroup>;
  static constexpr int kZeroStep = kBits == 8 ? 8 : 4;  // bytes from row g's to row g + 8's
  unsigned group, codes, scale, zero, shift;

  __device__ __forceinline__ LanePlace(unsigned inside, int lane) {
    const unsigned g = lane / 4;
    group = settled(inside / kGroup);
    codes = settled(inside / kChunk * L::kChunkBytes);
    scale = settled(group * L::kScaleBytes + g * 2);
    zero = settled(group * L::kZeroBytes + (kBits == 8 ? g : g / 2));
    shift = settled(kBits == 8 ? 0 : 4 * (g & 1));
  }
  /// Of group q after this warp's first; of a group that is not there, zeros. `table`: the superblock's scales.
  template <bool kWhole>
  __device__ __forceinline__ RowScales scales(const uint8_t* table, unsigned groups, int q) const {
    const bool there = kWhole || group + q < groups;
    const unsigned back = there ? q : 0;
    const uint8_t* zeros = table + groups * L::kScaleBytes + zero + back * L::kZeroBytes;
    RowScales r;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      constexpr int kOffset = Codes<kBits>::kRawOffset;
      const int factor = Codes<kBits>::raw_factor(h);
      const __half s = *reinterpret_cast<const __half*>(table + scale + back * L::kScaleBytes + 16 * h);
      r.scale[h] = there ? __half2float(s) * (1.f / factor) : 0.f;
      // 2^23 + zero as a float, by its bits: few instructions, and exact in the product too.
      const uint32_t z = zeros[kZeroStep * h], bits = 0x4b000000u | (kBits == 8 ? z : (z >> shift) & 15u);
      r.shift[h] = r.scale[h] * fmaf(__uint_as_float(bits), float(factor), kOffset - 8388608.f * factor);
    }
    return r;
  }
};

/// The products of 128 k: `x_at` is this lane's place in the rows of x, `x_sum` in the sums of the groups.
/// Tokens beyond the last are computed as if they were the last, and dropped later.
template <int kBits, int kGroup, int kColumnTiles>
__device__ __forceinline__ void stream_span(const Codes<kBits> (&codes)[2], const RowScales (&scales)[kSpan / kGroup],
                                            const uint8_t* const (&x_at)[kColumnTiles], unsigned x_offset, const float* x_sum,
                                            float (&sum)[kColumnTiles][4]) {
  // Two chains of products where one would wait for itself.
  constexpr int kChains = kGroup == kSpan && kColumnTiles == 1 ? 2 : 1, kSteps = kGroup / 32;
#pragma unroll
  for (int q = 0; q < kSpan / kGroup; ++q) {
    float dot[kChains][kColumnTiles][4] = {};
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int h = q * kSteps + i;
      uint32_t a[2][4];
      codes[h / 2].raw_fragment(2 * (h % 2), a[0]);
      codes[h / 2].raw_fragment(2 * (h % 2) + 1, a[1]);
#pragma unroll
      for (int c = 0; c < kColumnTiles; ++c) {
        const uint4 x = *reinterpret_cast<const uint4*>(x_at[c] + x_offset + h * 64);
        multiply(dot[i * kChains / kSteps][c], a[0], x.x, x.y);
        multiply(dot[i * kChains / kSteps][c], a[1], x.z, x.w);
      }
    }
#pragma unroll
    for (int c = 0; c < kColumnTiles; ++c) {
      const float2 sums = *reinterpret_cast<const float2*>(x_sum + q * kColumnTiles * 8 + c * 8);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float d = dot[0][c][i];
        if constexpr (kChains > 1) d += dot[1][c][i];
        sum[c][i] += scales[q].scale[i / 2] * d - scales[q].shift[i / 2] * (i % 2 ? sums.y : sums.x);
      }
    }
  }
}

/// A warp's sums of a tile, where stream_finish() adds them up.
template <int kColumnTiles>
__device__ __forceinline__ void write_partial(float* partial, int warp, int m, int lane, const float (&sum)[kColumnTiles][4]) {
  const int g = lane / 4, t = lane % 4;
  float* mine = partial + warp * m * kPartialPitch;
#pragma unroll
  for (int c = 0; c < kColumnTiles; ++c)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = c * 8 + 2 * t + i % 2;
      if (token < m) mine[token * kPartialPitch + g + 8 * (i / 2)] = sum[c][i];
    }
}

/// What stream_finish() will add to this thread's result of tile `index`, asked for long before.
template <int kThreads>
__device__ __forceinline__ float early_residual(const StreamParams& p, int index) {
  const StreamTile place(p, index);
  const int i = (threadIdx.x + (p.silu ? index >> 1 : index) * kWarp) % kThreads;
  const int n = place.tile * kTileRows + i % kTileRows, token = i / kTileRows;
  return p.residual != nullptr && place.segment == 0 && token < p.m && n < p.n0 ? p.residual[size_t(token) * p.ldy0 + n] : 0.f;
}

/// Adds the warps' sums of tile `index` and, when k is complete, writes results. `kept` belongs
/// to this tile and the one it is paired with: the same thread reads what it wrote.
template <int kWarps, int kThreads, bool kEarly>
__device__ __forceinline__ void stream_finish(const StreamParams& p, int index, const float* partial, float* kept, float* kept_gate,
                                              bool begins, bool ends, float residual) {
  const StreamTile place(p, index);
  // Tile after tile it is another warp's turn to do this.
  const int turn = (p.silu ? index >> 1 : index) * kWarp;
  for (int i = (threadIdx.x + turn) % kThreads; i < kTileRows * p.m; i += kThreads) {
    const int row = i % kTileRows, token = i / kTileRows, n = place.tile * kTileRows + row;
    float y = 0.f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) y += partial[(w * p.m + token) * kPartialPitch + row];
    if (!begins) y += kept[i];
    if (!ends) {
      kept[i] = y;
      continue;
    }
    if (n >= place.pick(p.n0, p.n1, p.n2)) continue;
    const __half* bias = place.pick(p.bias0, p.bias1, p.bias2);
    if (bias != nullptr) y += __half2float(__ldg(bias + n));
    void* to = place.pick(p.y0, p.y1, p.y2);
    if (p.silu) {
      if (place.segment == 0) {
        kept_gate[i] = y;
        continue;
      }
      const float gate = kept_gate[i];
      y *= gate / (1.f + __expf(-gate));
      to = p.y0;
    }
    const size_t at = size_t(token) * place.pick(p.ldy0, p.ldy1, p.ldy2) + n;
    if (p.residual != nullptr && to == p.y0) y += kEarly ? residual : p.residual[at];
    if (p.y_is_f32) static_cast<float*>(to)[at] = y;
    else static_cast<__half*>(to)[at] = __float2half_rn(y);
  }
}

/// Whether a superblock has all of its k, for the compiler to know.
template <bool kValue>
struct Whole {
  static constexpr bool value = kValue;
};

/// kTeams * 8 warps that compute, and from sm_90 on one more that copies.
template <int kBits, int kGroup, int kColumnTiles, int kTeams>
__device__ __forceinline__ void linear_stream_body(const StreamParams& p, uint8_t* dynamic_shared) {
  using L = Layout<kBits, kGroup>;
  using Shared = StreamShared<kBits, kGroup, kColumnTiles, kTeams>;
  constexpr int kWarps = kTeams * kTeam, kThreads = kWarps * kWarp;
  const Shared shared(dynamic_shared, p);
  const StreamShare share(p);
  const int warp = threadIdx.x / kWarp, lane = settled(threadIdx.x % kWarp), g = lane / 4;
  const int superblocks = (p.k + kSuperblock - 1) / kSuperblock, slab = p.slab / kSuperblock;
  const size_t tile_bytes = L::tile_bytes(p.k);
  allow_next();

#if __CUDA_ARCH__ >= 900
  if (threadIdx.x == 0) {
    for (int s = 0; s < p.stages; ++s) {
      barrier_init(shared.full + s, 1);
      barrier_init(shared.empty + s, kTeam);
    }
    barrier_init_done();
  }
  __syncthreads();
  if (warp == kWarps) {
    if (lane != 0) return;
    const uint64_t policy = evict_first_policy();
    constexpr int kFull = L::superblock_bytes(kSuperblock);
    const int last_bytes = static_cast<int>(tile_bytes - size_t(superblocks - 1) * kFull);
    RingPlace at;
    for (int begin = 0; begin < superblocks; begin += slab) {
      const int end = min(begin + slab, superblocks);
      for (int index = share.first; index < share.last; ++index) {
        const uint8_t* from = StreamTile(p, index).weights(p, tile_bytes) + size_t(begin) * kFull;
        for (int sb = begin; sb < end; ++sb, at.next(p.stages), from += kFull) {
          barrier_wait(shared.empty + at.stage, at.parity ^ 1);
          copy_bulk(shared.ring + at.stage * Shared::kStageBytes, from, sb + 1 == superblocks ? last_bytes : kFull, shared.full + at.stage,
                    policy);
        }
      }
    }
    return;
  }
#endif

  const int team = warp / kTeam;
  const unsigned inside = warp % kTeam * kSpan;
  const uint8_t* x_at[kColumnTiles];
#pragma unroll
  for (int c = 0; c < kColumnTiles; ++c) x_at[c] = shared.x + min(c * 8 + g, p.m - 1) * shared.x_pitch + (inside + lane % 4 * 8) * 2;
  const LanePlace<kBits, kGroup> place(inside, lane);
  const float* x_sum = shared.x_sum + inside / kGroup * Shared::kSumPitch + lane % 4 * 2;
  const bool one_row = kColumnTiles == 1 && is_one_row<kThreads>(p);
  if (p.norm != nullptr)
    for (int i = threadIdx.x * 64; i < p.k_valid; i += kThreads * 64) prefetch_line(p.norm + i);
  wait_previous();
  if (p.norm != nullptr && !one_row) measure_rows<kThreads>(p, shared);
  RingPlace at;
  int turn = 0;
  for (int begin = 0; begin < superblocks; begin += slab) {
    const int end = min(begin + slab, superblocks);
    if (one_row) stage_row<kGroup, kThreads>(p, shared);
    else if (p.norm != nullptr) stage_x<kGroup, kThreads, true>(p, shared, begin * kSuperblock);
    else stage_x<kGroup, kThreads, false>(p, shared, begin * kSuperblock);
    meet<kThreads>();
    for (int index = share.first; index < share.last; ++index) {
      float sum[kColumnTiles][4] = {};
      const float residual = kColumnTiles == 1 ? early_residual<kThreads>(p, index) : 0.f;
#if __CUDA_ARCH__ < 900
      const uint8_t* tile = StreamTile(p, index).weights(p, tile_bytes);
#endif
      for (int sb = begin; sb < end; ++sb, at.next(p.stages)) {
        if (kTeams > 1 && sb % kTeams != team) continue;
        const unsigned sb_k = min(kSuperblock, p.k - sb * kSuperblock);
#if __CUDA_ARCH__ >= 900
        const uint8_t* superblock = shared.ring + at.stage * Shared::kStageBytes;
        barrier_wait(shared.full + at.stage, at.parity);
#else
        const uint8_t* superblock = tile + size_t(sb) * L::superblock_bytes(kSuperblock);
#endif
        const unsigned slab_k = unsigned(sb - begin) * kSuperblock;
        const auto span = [&](auto whole) {
          constexpr bool kWhole = decltype(whole)::value;
          const unsigned some_k = kWhole ? kSuperblock : sb_k, groups = kWhole ? kSuperblock / kGroup : (sb_k + kGroup - 1) / kGroup;
          // If only one chunk is left, the other's x are zeros: any codes will do.
          Codes<kBits> codes[2];
          const uint8_t* chunk = superblock + place.codes;
#if __CUDA_ARCH__ >= 900
          codes[0].load_shared(chunk, lane);
          codes[1].load_shared(chunk + L::kChunkBytes, lane);
#else
          codes[0].load(chunk, lane);
          codes[1].load(inside + kChunk < some_k ? chunk + L::kChunkBytes : chunk, lane);
#endif
          RowScales scales[kSpan / kGroup];
#pragma unroll
          for (int q = 0; q < kSpan / kGroup; ++q)
            scales[q] = place.template scales<kWhole>(superblock + some_k * (kTileRows * kBits / 8), groups, q);
          stream_span<kBits, kGroup, kColumnTiles>(codes, scales, x_at, slab_k * 2, x_sum + slab_k / kGroup * Shared::kSumPitch, sum);
        };
        if (sb_k == kSuperblock) span(Whole<true>());
        else if (inside < sb_k) span(Whole<false>());
#if __CUDA_ARCH__ >= 900
        __syncwarp();
        if (lane == 0) barrier_arrive(shared.empty + at.stage);
#endif
      }
      // One meeting per tile: the other buffer's readers are through when all are here again.
      float* partial = shared.partial + turn * shared.partial_size;
      write_partial<kColumnTiles>(partial, warp, p.m, lane, sum);
      meet<kThreads>();
      const bool slabs = slab < superblocks;
      const int slot = slabs ? index - share.first : 0, gate_slot = slabs ? slot - (index & p.silu) : 0;
      stream_finish<kWarps, kThreads, kColumnTiles == 1>(p, index, partial, shared.kept + slot * p.m * kTileRows,
                                      shared.kept + gate_slot * p.m * kTileRows, begin == 0, end == superblocks, residual);
      turn ^= 1;
    }
  }
}

}  // namespace exllama

// grid and dynamic shared memory by streamLaunch(); block 256 * TEAMS, and 32 more from sm_90 on; m <= COLUMNS.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define EXLLAMA_STREAM_THREADS(TEAMS) (256 * TEAMS + 32)
#else
#define EXLLAMA_STREAM_THREADS(TEAMS) (256 * TEAMS)
#endif
#define EXLLAMA_STREAM(BITS, GROUP, COLUMNS, TEAMS)                                                                 \
  extern "C" __global__ void __launch_bounds__(EXLLAMA_STREAM_THREADS(TEAMS), TEAMS == 1 ? 2 : 1)                    \
      linear_stream_q##BITS##_g##GROUP##_m##COLUMNS(const __grid_constant__ exllama::StreamParams p) {              \
    extern __shared__ __align__(128) uint8_t dynamic_shared[];                                                      \
    exllama::linear_stream_body<BITS, GROUP, COLUMNS / 8, TEAMS>(p, dynamic_shared);                                \
  }
#define EXLLAMA_STREAM_COLUMNS(BITS, GROUP) EXLLAMA_STREAM(BITS, GROUP, 8, 1) EXLLAMA_STREAM(BITS, GROUP, 16, 2)
#define EXLLAMA_STREAM_GROUPS(BITS) EXLLAMA_STREAM_COLUMNS(BITS, 32) EXLLAMA_STREAM_COLUMNS(BITS, 64) EXLLAMA_STREAM_COLUMNS(BITS, 128)
EXLLAMA_STREAM_GROUPS(2)
EXLLAMA_STREAM_GROUPS(3)
EXLLAMA_STREAM_GROUPS(4)
EXLLAMA_STREAM_GROUPS(8)
