// Quantised linears as plainly as can be: y[m, n] = sum_k x[m, k] * scale * (code - zero)[n, k] (+ bias),
// one thread per output, fp32. What linear_stream.cu and the expanded products are held against.
//
// Layout     quantized.cuh
// Limits     k % 64 == 0 after padding; groups of 32, 64 or 128; n padded to 16
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

// grid (n / 256, m), block 256.
#define EXLLAMA_LINEAR(BITS, GROUP)                                                                             \
  extern "C" __global__ void linear_q##BITS##_g##GROUP##_ref(const __grid_constant__ exllama::LinearParams p) { \
    exllama::linear_ref_body<BITS, GROUP>(p);                                                                   \
  }
#define EXLLAMA_LINEAR_GROUPS(BITS) EXLLAMA_LINEAR(BITS, 32) EXLLAMA_LINEAR(BITS, 64) EXLLAMA_LINEAR(BITS, 128)
EXLLAMA_LINEAR_GROUPS(2)
EXLLAMA_LINEAR_GROUPS(3)
EXLLAMA_LINEAR_GROUPS(4)
EXLLAMA_LINEAR_GROUPS(8)
