// Quantised linears whose act-order gives groups of unequal length: no permutation makes such
// groups whole, so their inputs stay in their own order and every input says which group it is
// of. A slab of row tiles becomes fp16 rows, which the fp16 kernels multiply: several times
// slower than the streamed path, and right.
//
// Strategy   as expand_*: a warp per chunk of 16 rows x 64 k, but scale and zero are looked up
//            for each input.
// Layout     quantized.cuh; group g of the checkpoint lies at kernel group g * repeat
// Reference  test/reference/forward.ts
#include "quantized.cuh"

namespace exllama {

struct ExpandIrregularParams {
  const uint8_t* weights;   // row tiles
  const int32_t* group_of;  // [ld] kernel group that has each input's scale and zero
  __half* expanded;         // [rows, ld]
  int32_t k;                // padded to 64
  int32_t ld;               // inputs
};
static_assert(sizeof(ExpandIrregularParams) == 32);

template <int kBits, int kGroup>
__device__ __forceinline__ void expand_irregular_body(const ExpandIrregularParams& p) {
  using L = Layout<kBits, kGroup>;
  constexpr int kGroupsOfSuperblock = kSuperblock / kGroup;
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int chunk = blockIdx.x * (blockDim.x / kWarp) + threadIdx.x / kWarp, tile = blockIdx.y;
  const int k0 = chunk * kChunk;
  allow_next();
  wait_previous();
  if (k0 >= p.k) return;
  const uint8_t* weights = p.weights + size_t(tile) * L::tile_bytes(p.k);
  Codes<kBits> codes;
  codes.load(weights + size_t(k0 / kSuperblock) * L::superblock_bytes(kSuperblock) + k0 % kSuperblock / kChunk * L::kChunkBytes, lane);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int k = k0 + 32 * half + 8 * t;
    if (k >= p.ld) continue;
    uint32_t a[2][4];
    codes.fragment(2 * half, a[0]);
    codes.fragment(2 * half + 1, a[1]);
    __half w[2][8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int group = __ldg(p.group_of + k + i), sb = group / kGroupsOfSuperblock;
      const GroupTable<kBits, kGroup> table(weights + size_t(sb) * L::superblock_bytes(kSuperblock), min(kSuperblock, p.k - sb * kSuperblock));
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const __half2 pair = *reinterpret_cast<const __half2*>(&a[i / 4][h + 2 * (i / 2 % 2)]);
        const float code = __half2float(i % 2 ? __high2half(pair) : __low2half(pair));
        const float zero = static_cast<float>(table.zero(group % kGroupsOfSuperblock, g + 8 * h) - L::kCentre);
        w[h][i] = __float2half_rn((code - zero) * table.scale(group % kGroupsOfSuperblock, g + 8 * h));
      }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h)
      *reinterpret_cast<uint4*>(p.expanded + size_t(tile * kTileRows + g + 8 * h) * p.ld + k) = *reinterpret_cast<uint4*>(w[h]);
  }
}

}  // namespace exllama

// grid (k / 512, tiles), block 256.
#define EXLLAMA_EXPAND_IRREGULAR(BITS, GROUP)                                         \
  extern "C" __global__ void __launch_bounds__(256, 4) expand_irregular_q##BITS##_g##GROUP( \
      const __grid_constant__ exllama::ExpandIrregularParams p) {                     \
    exllama::expand_irregular_body<BITS, GROUP>(p);                                   \
  }
#define EXLLAMA_EXPAND_IRREGULAR_GROUPS(BITS) EXLLAMA_EXPAND_IRREGULAR(BITS, 32) EXLLAMA_EXPAND_IRREGULAR(BITS, 64) EXLLAMA_EXPAND_IRREGULAR(BITS, 128)
EXLLAMA_EXPAND_IRREGULAR_GROUPS(2)
EXLLAMA_EXPAND_IRREGULAR_GROUPS(3)
EXLLAMA_EXPAND_IRREGULAR_GROUPS(4)
EXLLAMA_EXPAND_IRREGULAR_GROUPS(8)
