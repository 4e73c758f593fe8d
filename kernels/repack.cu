// Weights as a checkpoint stores them, turned into the order in which the kernels read them.
// Everything arrives in slabs that were staged in regions idle while loading.
//
// Strategy   a thread takes 32 consecutive input rows of one output column, places each code by
//            the inverse permutation (act-order sorts the rows by group) and ORs it into the
//            zeroed destination. Integer OR gives the same bits whatever the order; codes that
//            fall into one destination word are combined first, so that without a permutation
//            32 codes cost 2 * bits atomics.
// Layout     source: GPTQ, see src/model/spec.ts; destination: quantized.cuh
// Limits     slabs are a multiple of 32 input rows
#include "quantized.cuh"

namespace exllama {

struct RepackCodesParams {
  const uint32_t* source;    // [rows * bits / 32, n] packed down the rows, lowest bits first
  uint8_t* destination;      // row tiles, zeroed before the first slab
  const int32_t* inverse;    // [k] place of each input row, or null: its own
  int32_t first_row;         // of the slab
  int32_t rows;              // of the slab, a multiple of 32
  int32_t n, k;              // k padded to 64
};
static_assert(sizeof(RepackCodesParams) == 40);

struct RepackGroupsParams {
  const void* scales;        // [groups, n] f16, or f32 where scales_are_f32 (bf16 arrives as f16)
  const uint32_t* zeros;     // [groups, n * bits / 32] packed along the columns
  uint8_t* destination;
  uint32_t* bad;             // set to 1 + column of a scale that is NaN, infinite or overflows fp16
  int32_t groups;            // of the checkpoint that are in this slab
  int32_t repeat;            // kernel groups that share one of them
  int32_t n, k;
  int32_t scales_are_f32;
  int32_t first_group;       // kernel group at which the slab begins
  int32_t zero_offset;       // added to stored zeros, wrapping within their bits: what is kept is the true zero
  int32_t unused;
};
static_assert(sizeof(RepackGroupsParams) == 64);

template <int kBits, int kGroup>
__device__ __forceinline__ void repack_codes_body(const RepackCodesParams& p) {
  using L = Layout<kBits, kGroup>;
  const int n = blockIdx.x * blockDim.x + threadIdx.x;
  const int r0 = blockIdx.y * 32;
  if (n >= p.n || r0 >= p.rows) return;
  uint32_t source[kBits];
#pragma unroll
  for (int i = 0; i < kBits; ++i) source[i] = p.source[size_t(r0 * kBits / 32 + i) * p.n + n];
  uint8_t* tile = p.destination + size_t(n / kTileRows) * L::tile_bytes(p.k);

  uint32_t* pending = nullptr;
  uint32_t bits = 0;
  auto put = [&](uint32_t* word, uint32_t value) {
    if (word != pending) {
      if (bits) atomicOr(pending, bits);
      pending = word;
      bits = 0;
    }
    bits |= value;
  };
  for (int pass = 0; pass < (kBits == 3 ? 2 : 1); ++pass) {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const uint32_t low = source[i * kBits / 32] >> (i * kBits % 32);
      const uint32_t high = i * kBits % 32 + kBits > 32 ? source[i * kBits / 32 + 1] << (32 - i * kBits % 32) : 0;
      const uint32_t code = (low | high) & ((1u << kBits) - 1);
      const int row = p.first_row + r0 + i;
      const int k = p.inverse == nullptr ? row : p.inverse[row];
      uint8_t* chunk = tile + size_t(k / kSuperblock) * L::superblock_bytes(kSuperblock) + k % kSuperblock / kChunk * L::kChunkBytes;
      int word, shift;
      if (kBits == 3 && pass == 1) {
        third_bit_place(n % kTileRows, k % kChunk, word, shift);
        put(reinterpret_cast<uint32_t*>(chunk) + word, (code >> 2) << shift);
      } else {
        code_place<kBits>(n % kTileRows, k % kChunk, word, shift);
        put(reinterpret_cast<uint32_t*>(chunk) + word, (kBits == 3 ? code & 3 : code) << shift);
      }
    }
  }
  if (bits) atomicOr(pending, bits);
}

template <int kBits, int kGroup>
__device__ __forceinline__ void repack_groups_body(const RepackGroupsParams& p) {
  using L = Layout<kBits, kGroup>;
  const int n = blockIdx.x * blockDim.x + threadIdx.x;
  const int from = blockIdx.y / p.repeat;
  const int group = p.first_group + blockIdx.y;  // of the kernel's groups
  if (n >= p.n || from >= p.groups || group * kGroup >= p.k) return;
  const size_t at = size_t(from) * p.n + n;
  const float scale = p.scales_are_f32 ? static_cast<const float*>(p.scales)[at] : __half2float(static_cast<const __half*>(p.scales)[at]);
  const __half half = __float2half_rn(scale);
  if (!isfinite(__half2float(half))) atomicMax(p.bad, 1u + n);

  const int bit = n * kBits;
  const uint32_t* row = p.zeros + size_t(from) * (p.n * kBits / 32);
  const uint32_t low = row[bit / 32] >> (bit % 32);
  const uint32_t high = bit % 32 + kBits > 32 ? row[bit / 32 + 1] << (32 - bit % 32) : 0;
  const uint32_t zero = ((low | high) + p.zero_offset) & ((1u << kBits) - 1);

  const int k0 = group * kGroup, sb = k0 / kSuperblock;
  const int sb_k = min(kSuperblock, p.k - sb * kSuperblock), inside = k0 % kSuperblock / kGroup, r = n % kTileRows;
  uint8_t* superblock = p.destination + size_t(n / kTileRows) * L::tile_bytes(p.k) + size_t(sb) * L::superblock_bytes(kSuperblock);
  uint8_t* scales = superblock + sb_k * kTileRows * kBits / 8;
  uint8_t* zeros = scales + (sb_k + kGroup - 1) / kGroup * L::kScaleBytes;
  reinterpret_cast<__half*>(scales)[inside * kTileRows + r] = half;
  if constexpr (kBits == 8) {
    zeros[inside * kTileRows + r] = static_cast<uint8_t>(zero);
  } else {
    const size_t nibble = size_t(zeros - p.destination) * 2 + inside * kTileRows + r;
    atomicOr(reinterpret_cast<uint32_t*>(p.destination) + nibble / 8, zero << (4 * (nibble % 8)));
  }
}

/// For linears whose groups the quantised kernels do not have: expanded to fp16 for good.
struct DequantizeParams {
  const uint32_t* source;    // [rows * bits / 32, n] packed down the rows
  const void* scales;        // [groups, n] f16, or f32 where scales_are_f32
  const uint32_t* zeros;     // [groups, n * bits / 32] packed along the columns
  const int32_t* group_of;   // [k] group of each input row, or null: row / group_size
  __half* destination;       // [n, k]
  uint32_t* bad;             // set to 1 + output of a weight that is NaN, infinite or overflows fp16
  int32_t first_row, rows;   // of the slab; first_row is a multiple of 32
  int32_t n, k;
  int32_t bits, group_size, zero_offset, scales_are_f32;
};
static_assert(sizeof(DequantizeParams) == 80);

__device__ __forceinline__ uint32_t packed_code(const uint32_t* words, size_t stride, int index, int bits) {
  const int bit = index * bits, shift = bit % 32;
  const uint32_t low = words[size_t(bit / 32) * stride] >> shift;
  const uint32_t high = shift + bits > 32 ? words[size_t(bit / 32 + 1) * stride] << (32 - shift) : 0;
  return (low | high) & ((1u << bits) - 1);
}

struct WidenParams {
  const void* source;   // count values of f16, bf16 or f32
  __half* destination;
  uint32_t* bad;        // set to 1 where a value is NaN, infinite or overflows fp16
  int64_t count;
  int32_t kind;         // 0 f16, 1 bf16, 2 f32
  int32_t unused;
};
static_assert(sizeof(WidenParams) == 40);

__device__ __forceinline__ float plain_value(const void* source, int64_t i, int kind) {
  if (kind == 0) return __half2float(static_cast<const __half*>(source)[i]);
  if (kind == 1) return __bfloat162float(static_cast<const __nv_bfloat16*>(source)[i]);
  return static_cast<const float*>(source)[i];
}

}  // namespace exllama

/// grid (n / 256, rows / 8), block 256: a thread makes eight inputs of one output.
extern "C" __global__ void dequantize(const __grid_constant__ exllama::DequantizeParams p) {
  const int n = blockIdx.x * blockDim.x + threadIdx.x;
  if (n >= p.n) return;
  for (int i = 0; i < 8; ++i) {
    const int local = blockIdx.y * 8 + i, row = p.first_row + local;
    if (local >= p.rows) return;
    const int group = p.group_of == nullptr ? row / p.group_size : p.group_of[row];
    const size_t at = size_t(group) * p.n + n;
    const float scale = p.scales_are_f32 ? static_cast<const float*>(p.scales)[at] : __half2float(static_cast<const __half*>(p.scales)[at]);
    const int code = exllama::packed_code(p.source + n, p.n, local, p.bits);
    const uint32_t stored = exllama::packed_code(p.zeros + size_t(group) * (p.n * p.bits / 32), 1, n, p.bits);
    const int zero = (stored + p.zero_offset) & ((1u << p.bits) - 1);
    const __half w = __float2half_rn(scale * static_cast<float>(code - zero));
    if (!isfinite(__half2float(w))) atomicMax(p.bad, 1u + n);
    p.destination[size_t(n) * p.k + row] = w;
  }
}

/// Plain weights, biases and norms of any dtype to fp16. grid-stride.
extern "C" __global__ void to_half(const __grid_constant__ exllama::WidenParams p) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < p.count; i += int64_t(gridDim.x) * blockDim.x) {
    const __half h = __float2half_rn(exllama::plain_value(p.source, i, p.kind));
    if (!isfinite(__half2float(h))) atomicMax(p.bad, 1u);
    p.destination[i] = h;
  }
}

// codes: grid (n / 256, rows / 32); groups: grid (n / 256, kernel groups); block 256.
#define EXLLAMA_REPACK(BITS, GROUP)                                                                                  \
  extern "C" __global__ void repack_codes_q##BITS##_g##GROUP(const __grid_constant__ exllama::RepackCodesParams p) { \
    exllama::repack_codes_body<BITS, GROUP>(p);                                                                      \
  }                                                                                                                  \
  extern "C" __global__ void repack_groups_q##BITS##_g##GROUP(                                                       \
      const __grid_constant__ exllama::RepackGroupsParams p) {                                                       \
    exllama::repack_groups_body<BITS, GROUP>(p);                                                                     \
  }
#define EXLLAMA_REPACK_GROUPS(BITS) EXLLAMA_REPACK(BITS, 32) EXLLAMA_REPACK(BITS, 64) EXLLAMA_REPACK(BITS, 128)
EXLLAMA_REPACK_GROUPS(2)
EXLLAMA_REPACK_GROUPS(3)
EXLLAMA_REPACK_GROUPS(4)
EXLLAMA_REPACK_GROUPS(8)
