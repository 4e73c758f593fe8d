// Linears over fp16 weights: whole prompts (quantised weights are expanded in slabs that stay
// in L2 first, see expand_*), plain checkpoints, and the head.
//
// linear_half_gemm
//   Strategy   block tile 128 tokens x 128 outputs, k in steps of 32 through a ring of four
//              cp.async stages; eight warps of 64 x 32; mma.m16n8k16, fp32 accumulation in
//              registers over the whole of k: one fixed order, the same bits every time.
//              16-byte cells of shared memory are swizzled so that ldmatrix has no conflicts.
//   Limits     k % 8 == 0 and 16-byte aligned rows; 64 KB of shared memory; any m, n
//   Reference  linear_half_ref
// linear_half_gemm_wgmma_n256, _n128, _n64
//   The same on Hopper (sm_90a; empty elsewhere), see linear_half_wgmma.cuh.
#include "linear_half.cuh"
#include "linear_half_wgmma.cuh"
#include "quantized.cuh"
#include "tensor_map.cuh"

namespace exllama {

struct TensorLinearParams {
  TensorMap x_map, w_map;      // boxes of 64 k x 128 rows, of 64 k x N rows; 128-byte swizzle (tensor-map.ts)
  HalfLinearParams linear;
};
static_assert(sizeof(TensorLinearParams) == 320);

struct ExpandParams {
  const uint8_t* weights;      // row tiles of a quantised linear
  __half* expanded;            // [rows, ld] f16
  int32_t first_tile, tiles;   // the slab
  int32_t k;                   // padded to 64
  int32_t ld;                  // columns of `expanded`: those that x really has
  int32_t zero_offset;
  int32_t unused;
};
static_assert(sizeof(ExpandParams) == 40);

constexpr int kTile = 128, kStep = 32, kStages = 4, kGemmThreads = 256;
constexpr int kCells = kStep / 8;                              // 16-byte cells of a row in a stage
constexpr int kStageBytes = 2 * kTile * kStep * 2;             // x and w
constexpr int kGemmShared = kStages * kStageBytes;             // 64 KB
static_assert(kGemmShared == 65536);

/// Byte offset of the 16-byte cell `cell` of `row` in a [kTile][kStep] half tile: rows of 64 bytes,
/// cells exchanged so that eight consecutive rows hit eight different bank groups.
__device__ __forceinline__ int cell_offset(int row, int cell) { return row * (kStep * 2) + ((cell ^ ((row >> 1) & 3)) << 4); }

__device__ __forceinline__ void load_stage(const HalfLinearParams& p, uint8_t* stage, int m0, int n0, int k0) {
#pragma unroll
  for (int i = threadIdx.x; i < 2 * kTile * kCells; i += kGemmThreads) {
    const bool is_w = i >= kTile * kCells;
    const int row = i / kCells % kTile, cell = i % kCells, k = k0 + cell * 8;
    const int index = (is_w ? n0 : m0) + row;
    const bool valid = k < p.k && index < (is_w ? p.n : p.m);
    const __half* from = is_w ? p.weights + size_t(valid ? index : 0) * p.k : p.x + size_t(valid ? index : 0) * p.ldx;
    copy_async_16(stage + (is_w ? kTile * kStep * 2 : 0) + cell_offset(row, cell), from + (valid ? k : 0), valid);
  }
}

}  // namespace exllama

/// grid (n / 128, m / 128), block 256, 64 KB of dynamic shared memory.
extern "C" __global__ void __launch_bounds__(256, 2) linear_half_gemm(const __grid_constant__ exllama::HalfLinearParams p) {
  using namespace exllama;
  extern __shared__ __align__(128) uint8_t shared[];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int wm = warp / 4 * 64, wn = warp % 4 * 32;
  const int m0 = blockIdx.y * kTile, n0 = blockIdx.x * kTile;
  const int steps = (p.k + kStep - 1) / kStep;

  float sum[4][4][4] = {};
  allow_next();
  wait_previous();
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < steps) load_stage(p, shared + s * kStageBytes, m0, n0, s * kStep);
    copy_async_commit();
  }
  for (int step = 0; step < steps; ++step) {
    copy_async_wait<kStages - 2>();
    __syncthreads();
    const int next = step + kStages - 1;
    if (next < steps) load_stage(p, shared + next % kStages * kStageBytes, m0, n0, next * kStep);
    copy_async_commit();

    const uint8_t* xs = shared + step % kStages * kStageBytes;
    const uint8_t* ws = xs + kTile * kStep * 2;
#pragma unroll
    for (int kk = 0; kk < kStep / 16; ++kk) {
      uint32_t a[4][4], b[2][4];
#pragma unroll
      for (int i = 0; i < 4; ++i)  // rows 0-7 | 8-15 of k 0-7, then of k 8-15
        load_matrix_x4(a[i], xs + cell_offset(wm + i * 16 + lane % 16, kk * 2 + lane / 16));
#pragma unroll
      for (int i = 0; i < 2; ++i)  // outputs 0-7 of k 0-7, of k 8-15; outputs 8-15 likewise
        load_matrix_x4(b[i], ws + cell_offset(wn + i * 16 + lane % 8 + lane / 16 * 8, kk * 2 + lane / 8 % 2));
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const uint32_t fragment[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
          mma_16x8x16(sum[i][j], a[i], fragment);
        }
    }
  }
  copy_async_wait<0>();

  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int m = m0 + wm + i * 16 + g + 8 * h, n = n0 + wn + j * 8 + 2 * t;
        if (m >= p.m) continue;
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          if (n + e >= p.n) continue;
          float y = sum[i][j][2 * h + e];
          if (p.bias != nullptr) y += __half2float(__ldg(p.bias + n + e));
          const size_t at = size_t(m) * p.ldy + n + e;
          if (p.residual != nullptr) y += p.residual[at];
          if (p.y_is_f32) static_cast<float*>(p.y)[at] = y;
          else static_cast<__half*>(p.y)[at] = __float2half_rn(y);
        }
      }
}

// grid: a block per tile of 128 x N, at most as many as the card has multiprocessors; block 384, 214272 bytes
// of dynamic shared memory.
#ifdef EXLLAMA_WGMMA
#define EXLLAMA_WGMMA_BODY(N) exllama::wgmma_gemm<N>(p.linear, &p.x_map, &p.w_map)
#else
#define EXLLAMA_WGMMA_BODY(N)
#endif
#define EXLLAMA_WGMMA_GEMM(N)                                                                  \
  extern "C" __global__ void __launch_bounds__(384, 1) linear_half_gemm_wgmma_n##N(           \
      const __grid_constant__ exllama::TensorLinearParams p) {                                \
    EXLLAMA_WGMMA_BODY(N);                                                                     \
  }
EXLLAMA_WGMMA_GEMM(256)
EXLLAMA_WGMMA_GEMM(128)
EXLLAMA_WGMMA_GEMM(64)

/// grid (n / 256, m), block 256.
extern "C" __global__ void linear_half_ref(const __grid_constant__ exllama::HalfLinearParams p) {
  const int n = blockIdx.x * blockDim.x + threadIdx.x, m = blockIdx.y;
  if (n >= p.n) return;
  float y = 0.f;
  for (int k = 0; k < p.k; ++k) y += __half2float(p.weights[size_t(n) * p.k + k]) * __half2float(p.x[size_t(m) * p.ldx + k]);
  if (p.bias != nullptr) y += __half2float(p.bias[n]);
  const size_t at = size_t(m) * p.ldy + n;
  if (p.residual != nullptr) y += p.residual[at];
  if (p.y_is_f32) static_cast<float*>(p.y)[at] = y;
  else static_cast<__half*>(p.y)[at] = __float2half_rn(y);
}

namespace exllama {

/// A slab of row tiles as fp16 rows. One warp per chunk of 16 rows x 64 k; columns stay in the
/// order of the packed k (x is gathered by the permutation).
template <int kBits, int kGroup>
__device__ __forceinline__ void expand_body(const ExpandParams& p) {
  using L = Layout<kBits, kGroup>;
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int chunk = blockIdx.x * (blockDim.x / kWarp) + threadIdx.x / kWarp, tile = blockIdx.y;
  const int k0 = chunk * kChunk;
  allow_next();
  wait_previous();
  if (k0 >= p.k) return;
  const int sb = k0 / kSuperblock, sb_k = min(kSuperblock, p.k - sb * kSuperblock), inside = k0 % kSuperblock;
  const uint8_t* superblock = p.weights + size_t(p.first_tile + tile) * L::tile_bytes(p.k) + size_t(sb) * L::superblock_bytes(kSuperblock);
  Codes<kBits> codes;
  codes.load(superblock + inside / kChunk * L::kChunkBytes, lane);
  const GroupTable<kBits, kGroup> table(superblock, sb_k);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int group = (inside + 32 * half) / kGroup, k = k0 + 32 * half + 8 * t;
    uint32_t a[2][4];
    codes.fragment(2 * half, a[0]);
    codes.fragment(2 * half + 1, a[1]);
#pragma unroll
    for (int h = 0; h < 2; ++h) {  // rows g and g + 8
      const float scale = table.scale(group, g + 8 * h);
      const float zero = static_cast<float>(table.zero(group, g + 8 * h) + p.zero_offset - L::kCentre);
      __half2 w[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // k = 4 (i / 2) + 2 (i % 2)
        const float2 v = __half22float2(*reinterpret_cast<const __half2*>(&a[i / 2][h + 2 * (i % 2)]));
        w[i] = __floats2half2_rn((v.x - zero) * scale, (v.y - zero) * scale);
      }
      if (k < p.ld) *reinterpret_cast<uint4*>(p.expanded + size_t(tile * kTileRows + g + 8 * h) * p.ld + k) = *reinterpret_cast<uint4*>(w);
    }
  }
}

}  // namespace exllama

// grid (k / 512, tiles), block 256.
#define EXLLAMA_EXPAND(BITS, GROUP)                                                                    \
  extern "C" __global__ void expand_q##BITS##_g##GROUP(const __grid_constant__ exllama::ExpandParams p) { \
    exllama::expand_body<BITS, GROUP>(p);                                                              \
  }
#define EXLLAMA_EXPAND_GROUPS(BITS) EXLLAMA_EXPAND(BITS, 32) EXLLAMA_EXPAND(BITS, 64) EXLLAMA_EXPAND(BITS, 128)
EXLLAMA_EXPAND_GROUPS(2)
EXLLAMA_EXPAND_GROUPS(3)
EXLLAMA_EXPAND_GROUPS(4)
EXLLAMA_EXPAND_GROUPS(8)

/// x gathered by a permutation, so that the GEMM reads whole cells. grid (k / 256, m), block 256.
struct GatherParams {
  const __half* x;             // [m, ldx]
  const int32_t* permutation;  // [k]
  __half* gathered;            // [m, k]
  int32_t k, ldx;
};
static_assert(sizeof(GatherParams) == 32);
extern "C" __global__ void gather_columns(const __grid_constant__ GatherParams p) {
  exllama::allow_next();
  exllama::wait_previous();
  const int k = blockIdx.x * blockDim.x + threadIdx.x, m = blockIdx.y;
  if (k < p.k) p.gathered[size_t(m) * p.k + k] = p.x[size_t(m) * p.ldx + p.permutation[k]];
}
