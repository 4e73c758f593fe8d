// What a launch of linear_batch_wgmma.cu or linear_batch_cluster.cu is told, how its work is dealt out, and the two rings that feed a block: each warp's
// weights and the block's x.
#pragma once

#include "code_order.cuh"
#include "deferred_norm.cuh"
#include "group_zeros.cuh"
#include "linear_prompt.cuh"
#include "tensor_map.cuh"

namespace exllama {

struct BatchLinear {
  const uint8_t* weights0;  // row tiles of up to three linears that read the same x
  const uint8_t* weights1;
  const uint8_t* weights2;
  const __half* bias0;      // [n] or null
  const __half* bias1;
  const __half* bias2;
  __half* y0;               // [m, n] each
  __half* y1;
  __half* y2;
  float* residual;          // [m, n0], to which the only linear's results are added in place of y0; or null
  float* pieces;            // kAbsent between launches
  int32_t n0, n1, n2;       // 0: there is none
  int32_t m, k;
  int32_t silu;             // silu(first) * second, as the first one's y
  int32_t units;
  int32_t ordered;          // y0 in the order of codes
  uint64_t unused;
};
static_assert(sizeof(BatchLinear) == 128);

struct TensorBatchParams {
  TensorMap x_map;          // boxes of 64 k x kN tokens, 128-byte swizzle (tensor-map.ts)
  BatchLinear linear;
  DeferredNorm norm;        // all null with more than 16 tokens
};
static_assert(sizeof(TensorBatchParams) == 320);

constexpr int kBatchOutputs = 128, kBatchWarps = 8, kSliceChunks = 4, kSliceK = kSliceChunks * kChunk;

template <int kGroup, int kN>
struct BatchTile {
  using L = Layout<4, kGroup>;
  static constexpr int kStageBytes = 2 * kN * kChunk * 2;                // x of a pair of chunks
  static constexpr bool kByWarps = kN <= 16;                             // products of warps (mma.sync), else of warpgroups
  static constexpr int kStages = kN == 64 ? 3 : 4;
  static constexpr int kGroups = kSliceK / kGroup;
  static constexpr int kCodeBytes = kSliceChunks * L::kChunkBytes, kScaleBytes = kGroups * L::kScaleBytes, kZeroBytes = kGroups * L::kZeroBytes;
  static constexpr int kSliceBytes = kCodeBytes + kScaleBytes + kZeroBytes;  // of a warp
  static constexpr int kSlots = kN == 8 || kN == 64 || (kN == 32 && kGroup == 32) ? 3 : 4;  // slices under way to a warp, and the one it reads
  static constexpr bool kScaled = kN <= 16 || (kN == 32 && kGroup == 128);  // fp32 sums of groups are scaled, not weights
  static constexpr int kPart = kN == 64 ? 16 : kN < 32 ? kN : 32;        // tokens of which results are made at a time
  static constexpr int kWeightsAt = kStages * kStageBytes;
  static constexpr int kUpAt = kWeightsAt + kBatchWarps * kSlots * kSliceBytes;  // sums of up on their way to gate's warps
  static constexpr int kBarriersAt = kUpAt + kBatchWarps / 2 * kTileRows * kPart * 4;
  static constexpr int kLoadedAt = kBarriersAt + 16 * kStages;
  static constexpr int kParkedAt = kLoadedAt + 8 * kBatchWarps * kSlots;
  static constexpr int kOthersAt = kParkedAt + 48 * kBatchWarps;        // how many runs share the unit that this one ends in
  // Squares of each token as a warp has added them up, a barrier behind them, what x carries: of norms that are put off.
  static constexpr int kSquaresAt = kOthersAt + 16, kSquaresBarrierAt = kSquaresAt + (kByWarps ? kBatchWarps * kN * 4 : 0);
  static constexpr int kCarriedAt = kSquaresBarrierAt + (kByWarps ? 16 : 0);
  static constexpr int kShared = 1024 + kCarriedAt + (kByWarps ? kN * 4 : 0);  // from a multiple of 1024 on
  static constexpr int kBlocks = kN == 8 ? 3 : kN <= 64 ? 2 : 1;              // of a multiprocessor
  static_assert(kSliceBytes % 16 == 0 && kZeroBytes % 16 == 0 && (kShared + 1024) * kBlocks <= 233472);
};
// What wgmmaBatchLaunch() asks for.
static_assert(BatchTile<128, 8>::kShared == 63296 && BatchTile<128, 16>::kShared == 90912 && BatchTile<128, 32>::kShared == 110800);
static_assert(BatchTile<128, 64>::kShared == 105984 && BatchTile<128, 128>::kShared == 209104 && BatchTile<32, 32>::kShared == 99472);

#ifdef EXLLAMA_WGMMA

#define EXLLAMA_SUMS_TEXT_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define EXLLAMA_SUMS_TEXT_16 EXLLAMA_SUMS_TEXT_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
EXLLAMA_WGMMA_WEIGHTS(32, 16, 17, 18, 19, 20, EXLLAMA_SUMS_TEXT_16, EXLLAMA_SUMS_8(d, 0), EXLLAMA_SUMS_8(d, 8))
EXLLAMA_WGMMA_WEIGHTS(64, 32, 33, 34, 35, 36, EXLLAMA_SUMS_TEXT_32, EXLLAMA_SUMS_32(d, 0))

/// As wgmma_weights(), the first of some products: d is not read.
template <int kN>
__device__ __forceinline__ void wgmma_weights_first(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b);

#define EXLLAMA_WGMMA_FIRST(N, A0, A1, A2, A3, B, SUMS_TEXT, ...)                                                      \
  template <>                                                                                                          \
  __device__ __forceinline__ void wgmma_weights_first<N>(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b) {      \
    asm volatile(                                                                                                      \
        "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.f16.f16 {" SUMS_TEXT "}, {%" #A0 ", %" #A1 ", %" #A2 ", %" #A3 \
        "}, %" #B ", 0, 1, 1, 0;"                                                                                      \
        : __VA_ARGS__                                                                                                  \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                                         \
  }
EXLLAMA_WGMMA_FIRST(32, 16, 17, 18, 19, 20, EXLLAMA_SUMS_TEXT_16, EXLLAMA_SUMS_8(d, 0), EXLLAMA_SUMS_8(d, 8))

__device__ __forceinline__ int units_of(int n) { return (n + kBatchOutputs - 1) / kBatchOutputs; }

/// Where the row tile of a warp lies in a unit.
struct BatchPlace {
  int linear, row;  // row: its first output
  __device__ __forceinline__ BatchPlace(const BatchLinear& p, int unit, int warp) {
    if (p.silu) {
      linear = warp / 4, row = unit * (kBatchOutputs / 2) + warp % 4 * kTileRows;
      return;
    }
    const int units0 = units_of(p.n0), units1 = units_of(p.n1);
    linear = unit < units0 ? 0 : unit < units0 + units1 ? 1 : 2;
    row = (unit - (linear == 0 ? 0 : linear == 1 ? units0 : units0 + units1)) * kBatchOutputs + warp * kTileRows;
  }
};

/// Slices: which run of them is a block's, and whose one is. Times the blocks they are fewer than 2^32: wgmmaBatchLaunch().
struct BatchShare {
  uint32_t slices, all;  // of a unit, of all
  __device__ __forceinline__ BatchShare(int k, int units) : slices(k / kSliceK), all(units * slices) {}
  __device__ __forceinline__ int first(uint32_t run) const { return all * run / gridDim.x; }
  __device__ __forceinline__ int run_of(uint32_t slice) const { return ((slice + 1) * gridDim.x - 1) / all; }
};

/// Which run is a block's: who waits for pieces waits for blocks ahead of it.
__device__ __forceinline__ int run_of_block() { return gridDim.x - 1 - blockIdx.x; }

/// `bytes` from device memory (both at multiples of 16) that count at a barrier.
__device__ __forceinline__ void copy_bytes(uint32_t to, const void* from, int bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes),
               "r"(barrier)
               : "memory");
}

/// Four words to shared memory.
__device__ __forceinline__ void store_shared(uint32_t to, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}
/// And from it.
template <typename A, typename B, typename C, typename D>
__device__ __forceinline__ void load_shared(uint32_t from, A& a, B& b, C& c, D& d) {
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "r"(from) : "memory");
}

/// A warp's place in the run of its block, and the two rings that feed it. Registers are scarce: what follows from something else is
/// not kept.
template <int kGroup, int kN>
struct BatchFlow {
  using Tile = BatchTile<kGroup, kN>;
  using L = Layout<4, kGroup>;
  const TensorBatchParams& params;
  uint32_t base;                     // shared address
  int warp, lane;
  // Weights: the place of the slice that is read, and what is asked for next.
  int slot = -1;
  uint32_t parity = 1;
  const uint8_t* superblock;
  int rest, slice, unit;             // inputs from the superblock's first on, slice in it
  // x: the place of the pair of chunks that is multiplied, and what is asked for next.
  int x_slot = 0;
  uint32_t x_parity = 0;
  int x_pair, x_left;                // of the unit; of the run, those that are not asked for

  __device__ __forceinline__ BatchFlow(const TensorBatchParams& params, const BatchShare& share, uint32_t base, int first, int last)
      : params(params), base(base), warp(threadIdx.x / kWarp), lane(threadIdx.x % kWarp), unit(first / share.slices), x_left(2 * (last - first)) {
    const int begin = first - unit * share.slices, k = begin * kSliceK;
    x_pair = 2 * begin;
    begin_unit();
    superblock += k / kSuperblock * L::superblock_bytes(kSuperblock);
    rest -= k / kSuperblock * kSuperblock;
    slice = k % kSuperblock / kSliceK;
  }

  /// Everything to shared memory, while a piece is finished and needs the registers; and back.
  __device__ __forceinline__ void park() {
    const uint64_t at = reinterpret_cast<uint64_t>(superblock);
    const uint32_t to = base + Tile::kParkedAt + warp * 48;
    if (lane == 0) {
      store_shared(to, slot, parity, uint32_t(at), uint32_t(at >> 32));
      store_shared(to + 16, rest, slice, unit, x_slot);
      store_shared(to + 32, x_parity, x_pair, x_left, 0);
    }
    __syncwarp();
  }
  __device__ __forceinline__ void resume() {
    base = settled(base);
    const unsigned thread = settled(threadIdx.x);
    warp = thread / kWarp, lane = thread % kWarp;
    const uint32_t from = base + Tile::kParkedAt + warp * 48;
    uint32_t low, high, none;
    load_shared(from, slot, parity, low, high);
    load_shared(from + 16, rest, slice, unit, x_slot);
    load_shared(from + 32, x_parity, x_pair, x_left, none);
    superblock = reinterpret_cast<const uint8_t*>(uint64_t(high) << 32 | low);
    __syncwarp();
  }

  __device__ __forceinline__ uint32_t loaded(int slot) const { return base + Tile::kLoadedAt + (warp * Tile::kSlots + slot) * 8; }
  __device__ __forceinline__ uint32_t weights(int slot) const { return base + Tile::kWeightsAt + (warp * Tile::kSlots + slot) * Tile::kSliceBytes; }
  __device__ __forceinline__ uint32_t x_at(int slot) const { return base + slot * Tile::kStageBytes; }
  __device__ __forceinline__ uint32_t full(int slot) const { return base + Tile::kBarriersAt + slot * 8; }
  __device__ __forceinline__ uint32_t empty(int slot) const { return base + Tile::kBarriersAt + (Tile::kStages + slot) * 8; }
  __device__ __forceinline__ int x_before() const { return x_slot == 0 ? Tile::kStages - 1 : x_slot - 1; }

  __device__ __forceinline__ void begin_unit() {
    const BatchLinear& p = params.linear;
    const BatchPlace place(p, unit, warp);
    const int tiles = (of_linear(place.linear, p.n0, p.n1, p.n2) + kTileRows - 1) / kTileRows;
    superblock = of_linear(place.linear, p.weights0, p.weights1, p.weights2) +
                 size_t(min(place.row / kTileRows, tiles - 1)) * L::tile_bytes(p.k);
    rest = p.k, slice = 0;
  }

  /// Asks for the next slice of weights: one lane each for codes, scales and zeros.
  __device__ __forceinline__ void ask(int to_slot) {
    const int k = min(kSuperblock, rest), group = slice * Tile::kGroups;
    const uint32_t to = weights(to_slot), barrier = loaded(to_slot);
    const uint8_t* scales = superblock + k * (kTileRows / 2);
    const uint8_t* from = lane == 0   ? superblock + slice * Tile::kCodeBytes
                          : lane == 1 ? scales + group * L::kScaleBytes
                                      : scales + (k + kGroup - 1) / kGroup * L::kScaleBytes + group * L::kZeroBytes;
    if (lane == 0) barrier_expect(barrier, Tile::kSliceBytes);
    __syncwarp();
    if (lane < 3)
      copy_bytes(to + (lane == 0 ? 0 : lane == 1 ? Tile::kCodeBytes : Tile::kCodeBytes + Tile::kScaleBytes), from,
                 lane == 0 ? Tile::kCodeBytes : lane == 1 ? Tile::kScaleBytes : Tile::kZeroBytes, barrier);
    if (++slice < k / kSliceK) return;
    superblock += L::superblock_bytes(kSuperblock);
    rest -= k, slice = 0;
    if (rest == 0 && ++unit < params.linear.units) begin_unit();
  }

  /// Goes on to the next slice of weights, when it is there.
  __device__ __forceinline__ void take() {
    if (++slot == Tile::kSlots) slot = 0;
    if (slot == 0) parity ^= 1;
    barrier_wait(loaded(slot), parity);
  }
  /// The codes of a chunk of the slice.
  template <int kIndex>
  __device__ __forceinline__ uint4 codes() const {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(weights(slot) + lane * 16 + kIndex * L::kChunkBytes)
                 : "memory");
    return v;
  }
  /// Scales of a group of the slice, f16, rows g and g + 8; zeros of all 16 rows.
  template <int kIndex>
  __device__ __forceinline__ void group(uint32_t (&scales)[2], uint2& zeros) const {
    const uint32_t at = weights(slot) + Tile::kCodeBytes + kIndex * 32 + lane / 4 * 2;
    uint16_t low, high;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(low) : "r"(at) : "memory");
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(high) : "r"(at + 16) : "memory");
    scales[0] = low, scales[1] = high;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
                 : "=r"(zeros.x), "=r"(zeros.y)
                 : "r"(weights(slot) + Tile::kCodeBytes + Tile::kScaleBytes + kIndex * 8)
                 : "memory");
  }
  /// All of a chunk.
  template <int kIndex>
  __device__ __forceinline__ void read(PackedChunk<kGroup>& packed) const {
    packed.codes = codes<kIndex>();
    if constexpr (kGroup < kChunk) {
      group<2 * kIndex>(packed.scales[0], packed.zeros[0]);
      group<2 * kIndex + 1>(packed.scales[1], packed.zeros[1]);
    } else {
      group<kIndex * kChunk / kGroup>(packed.scales[0], packed.zeros[0]);
    }
  }

  /// One thread asks for the next pair of x, into a place that nobody reads.
  __device__ __forceinline__ void ask_x(int to_slot) {
    if (x_left == 0) return;
    --x_left;
    barrier_expect(full(to_slot), Tile::kStageBytes);
#pragma unroll
    for (int c = 0; c < 2; ++c) copy_box(x_at(to_slot) + c * (kN * 128), &params.x_map, (2 * x_pair + c) * kChunk, 0, full(to_slot));
    if (++x_pair == params.linear.k / (2 * kChunk)) x_pair = 0;
  }
  /// For all lanes, when the products of the pair before are done and those of this one are not. `released`: this warp is
  /// done with the pair before already, or there has been none.
  __device__ __forceinline__ void pass_x(bool released) {
    const int before = x_before();
    if (!released && lane == 0) barrier_arrive(empty(before));
    if (threadIdx.x == 0 && x_left > 0) {
      barrier_wait(empty(before), x_slot == 0 ? x_parity ^ 1 : x_parity);  // a new barrier counts as past the parity 1
      ask_x(before);
    }
    __syncwarp();
  }
  __device__ __forceinline__ void advance_x() {
    if (++x_slot == Tile::kStages) x_slot = 0, x_parity ^= 1;
  }
};

#endif  // EXLLAMA_WGMMA

}  // namespace exllama
