// Quantised linears for few tokens: y[m, n] = sum_k x[m, k] * scale * (code - zero)[n, k] (+ bias),
// m <= 8 per pass of columns, up to 32 tokens in one launch.
//
// Strategy   weights are operand A of mma.m16n8k16 (16 output rows), activations operand B with
//            n = 8 tokens: 1 or 8 tokens cost the same. A block of eight warps owns one row tile;
//            warp w takes the units of 128 k number w, w + 8, ..., so that every warp streams
//            contiguous kilobytes; the codes of a whole unit are in flight before the first is
//            used. Partial sums meet in shared memory and are added in the order of the warps:
//            no atomics, the same bits every time.
//            Centred codes (code - 2^(bits-1)) are exact in fp16; each group's fp32 sum is
//            scaled once; the rest of the zero point enters as  -scale * (zero - centre) * sum(x),
//            with sum(x) from the same tensor core: a fragment of ones.
// Layout     quantized.cuh
// Limits     k % 64 == 0 after padding; groups of 32, 64 or 128; n padded to 16
// Reference  linear_quantized_ref: one thread per output, fp32
#include "quantized.cuh"

namespace exllama {

/// One launch. 8-byte fields first.
struct LinearParams {
  const uint8_t* weights;      // row tiles
  const __half* x;             // [m, ldx]
  const int32_t* permutation;  // [k] source column of x, or null
  const __half* bias;          // [n] or null
  const float* residual;       // [m, ldy] f32 added to the result, or null
  void* y;                     // [m, ldy] f16, or f32 where y_is_f32
  int32_t m, n, k;             // k padded to 64
  int32_t k_valid;             // columns that x really has
  int32_t ldx, ldy;
  int32_t zero_offset;         // 1: stored zeros are one less than true ones
  int32_t y_is_f32;
};
static_assert(sizeof(LinearParams) == 80);

constexpr int kWarps = 8;
constexpr int kUnit = 128;  // k that a warp takes at a time: two chunks, one group or more

/// Fragments of x for the two mma of 32 k: tokens `token` (= lane / 4 of the column tile).
__device__ __forceinline__ uint4 load_x(const LinearParams& p, int token, int k) {
  if (token >= p.m || k >= p.k_valid) return make_uint4(0, 0, 0, 0);
  const __half* row = p.x + size_t(token) * p.ldx;
  if (p.permutation == nullptr) return *reinterpret_cast<const uint4*>(row + k);
  __half h[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) h[i] = k + i < p.k_valid ? row[__ldg(p.permutation + k + i)] : __half(0.f);
  return *reinterpret_cast<uint4*>(h);
}

template <int kBits, int kGroup, int kColumns>
__device__ __forceinline__ void linear_body(const LinearParams& p) {
  using L = Layout<kBits, kGroup>;
  constexpr int kColumnTiles = kColumns / 8;
  __shared__ float partial[kWarps][kTileRows][kColumns + 1];

  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int g = lane / 4, t = lane % 4;
  const int tile = blockIdx.x;
  const uint8_t* weights = p.weights + size_t(tile) * L::tile_bytes(p.k);

  float sum[kColumnTiles][4] = {};
  allow_next();
  bool waited = false;

  for (int unit = warp; unit * kUnit < p.k; unit += kWarps) {
    const int k0 = unit * kUnit;
    const int sb = k0 / kSuperblock;
    const int sb_k = min(kSuperblock, p.k - sb * kSuperblock);
    const uint8_t* superblock = weights + size_t(sb) * L::superblock_bytes(kSuperblock);
    const int inside = k0 % kSuperblock;
    const bool second = inside + kChunk < sb_k;

    Codes<kBits> codes[2];
    codes[0].load(superblock + inside / kChunk * L::kChunkBytes, lane);
    if (second) codes[1].load(superblock + (inside / kChunk + 1) * L::kChunkBytes, lane);
    const GroupTable<kBits, kGroup> table(superblock, sb_k);

    constexpr int kGroupsPerUnit = kUnit / kGroup;
    float scale[kGroupsPerUnit][2], shift[kGroupsPerUnit][2];
#pragma unroll
    for (int q = 0; q < kGroupsPerUnit; ++q) {
      const int group = inside / kGroup + q;
      const bool there = group * kGroup < sb_k;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        scale[q][h] = there ? table.scale(group, g + 8 * h) : 0.f;
        const int zero = there ? table.zero(group, g + 8 * h) + p.zero_offset : L::kCentre;
        shift[q][h] = scale[q][h] * static_cast<float>(zero - L::kCentre);
      }
    }
    if (!waited) {  // only weights have been touched so far
      wait_previous();
      waited = true;
    }

#pragma unroll
    for (int c = 0; c < kColumnTiles; ++c) {
#pragma unroll
      for (int q = 0; q < kGroupsPerUnit; ++q) {
        float dot[4] = {}, ones[4] = {};
        // Halves of 32 k in this group: chunk h / 2, mma 2 (h % 2) and the next.
#pragma unroll
        for (int h = q * (kGroup / 32); h < (q + 1) * (kGroup / 32); ++h) {
          if (h >= 2 && !second) continue;
          const uint4 x = load_x(p, c * 8 + g, k0 + h * 32 + 8 * t);
          const uint32_t b[2][2] = {{x.x, x.y}, {x.z, x.w}};
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            uint32_t a[4];
            codes[h / 2].fragment(2 * (h % 2) + j, a);
            mma_16x8x16(dot, a, b[j]);
            const uint32_t one[4] = {0x3c003c00u, 0x3c003c00u, 0x3c003c00u, 0x3c003c00u};
            mma_16x8x16(ones, one, b[j]);
          }
        }
        sum[c][0] += scale[q][0] * dot[0] - shift[q][0] * ones[0];
        sum[c][1] += scale[q][0] * dot[1] - shift[q][0] * ones[1];
        sum[c][2] += scale[q][1] * dot[2] - shift[q][1] * ones[2];
        sum[c][3] += scale[q][1] * dot[3] - shift[q][1] * ones[3];
      }
    }
  }
  if (!waited) wait_previous();

#pragma unroll
  for (int c = 0; c < kColumnTiles; ++c)
#pragma unroll
    for (int i = 0; i < 4; ++i) partial[warp][g + 8 * (i / 2)][c * 8 + 2 * t + i % 2] = sum[c][i];
  __syncthreads();

  for (int i = threadIdx.x; i < kTileRows * kColumns; i += kWarps * kWarp) {
    const int row = i % kTileRows, token = i / kTileRows, n = tile * kTileRows + row;
    if (token >= p.m || n >= p.n) continue;
    float y = 0.f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) y += partial[w][row][token];
    if (p.bias != nullptr) y += __half2float(__ldg(p.bias + n));
    const size_t at = size_t(token) * p.ldy + n;
    if (p.residual != nullptr) y += p.residual[at];
    if (p.y_is_f32) static_cast<float*>(p.y)[at] = y;
    else static_cast<__half*>(p.y)[at] = __float2half_rn(y);
  }
}

template <int kBits, int kGroup>
__device__ __forceinline__ void linear_ref_body(const LinearParams& p) {
  using L = Layout<kBits, kGroup>;
  const int n = blockIdx.x * blockDim.x + threadIdx.x, token = blockIdx.y;
  if (n >= p.n) return;
  const uint8_t* weights = p.weights + size_t(n / kTileRows) * L::tile_bytes(p.k);
  const int row = n % kTileRows;
  float y = 0.f;
  for (int k = 0; k < p.k_valid; ++k) {
    const int sb = k / kSuperblock, sb_k = min(kSuperblock, p.k - sb * kSuperblock), inside = k % kSuperblock;
    const uint8_t* superblock = weights + size_t(sb) * L::superblock_bytes(kSuperblock);
    const uint32_t* chunk = reinterpret_cast<const uint32_t*>(superblock + inside / kChunk * L::kChunkBytes);
    int word, shift;
    code_place<kBits>(row, inside % kChunk, word, shift);
    int code = (chunk[word] >> shift) & ((1 << (kBits == 3 ? 2 : kBits)) - 1);
    if constexpr (kBits == 3) {
      third_bit_place(row, inside % kChunk, word, shift);
      code |= ((chunk[word] >> shift) & 1) << 2;
    }
    const GroupTable<kBits, kGroup> table(superblock, sb_k);
    const int group = inside / kGroup;
    const float w = table.scale(group, row) * static_cast<float>(code - table.zero(group, row) - p.zero_offset);
    const int column = p.permutation == nullptr ? k : p.permutation[k];
    y += w * __half2float(p.x[size_t(token) * p.ldx + column]);
  }
  if (p.bias != nullptr) y += __half2float(p.bias[n]);
  const size_t at = size_t(token) * p.ldy + n;
  if (p.residual != nullptr) y += p.residual[at];
  if (p.y_is_f32) static_cast<float*>(p.y)[at] = y;
  else static_cast<__half*>(p.y)[at] = __float2half_rn(y);
}

}  // namespace exllama

// grid (n / 16), block 256; m <= COLUMNS. grid (n / 256, m), block 256 for the reference.
#define EXLLAMA_LINEAR(BITS, GROUP)                                                                                         \
  extern "C" __global__ void __launch_bounds__(256, 2) linear_q##BITS##_g##GROUP##_m8(                                      \
      const __grid_constant__ exllama::LinearParams p) {                                                                    \
    exllama::linear_body<BITS, GROUP, 8>(p);                                                                                \
  }                                                                                                                         \
  extern "C" __global__ void __launch_bounds__(256, 1) linear_q##BITS##_g##GROUP##_m32(                                     \
      const __grid_constant__ exllama::LinearParams p) {                                                                    \
    exllama::linear_body<BITS, GROUP, 32>(p);                                                                               \
  }                                                                                                                         \
  extern "C" __global__ void linear_q##BITS##_g##GROUP##_ref(const __grid_constant__ exllama::LinearParams p) {             \
    exllama::linear_ref_body<BITS, GROUP>(p);                                                                               \
  }
#define EXLLAMA_LINEAR_GROUPS(BITS) EXLLAMA_LINEAR(BITS, 32) EXLLAMA_LINEAR(BITS, 64) EXLLAMA_LINEAR(BITS, 128)
EXLLAMA_LINEAR_GROUPS(2)
EXLLAMA_LINEAR_GROUPS(3)
EXLLAMA_LINEAR_GROUPS(4)
EXLLAMA_LINEAR_GROUPS(8)
