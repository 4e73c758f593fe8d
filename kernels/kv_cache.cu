// RoPE and the writing of keys and values for the tokens of prompts; decode steps do it inside their attention
// (attention_step.cuh).
//
// Strategy   One warp per (token, head): norm over the head where the model has one, RoPE, for q4 the rotation of
//            kv_cells.cuh, then q back in place and k, v into their page, in f16 or as codes and scales.
// Limits     dim % 8 == 0, dim <= 256
// Reference  dequantize_kv makes an f16 cache of what was written as codes, to be compared with rope_kv_f16's
#include "kv_cells.cuh"

namespace exllama {

template <int kBits>
__device__ __forceinline__ void rope_kv_body(const RopeKvParams& p) {
  allow_next();
  wait_previous();
  const int head = blockIdx.x * 8 + threadIdx.x / kWarp, lane = threadIdx.x % kWarp, row = blockIdx.y;
  const int position = p.positions[row];
  if (head >= p.heads + 2 * p.kv_heads || position < 0) return;
  const bool is_q = head < p.heads, is_v = head >= p.heads + p.kv_heads;
  const int index = is_q ? head : is_v ? head - p.heads - p.kv_heads : head - p.heads;
  const __half* from = is_q ? p.q + (size_t(row) * p.heads + index) * p.dim : (is_v ? p.v : p.k) + (size_t(row) * p.kv_heads + index) * p.dim;
  HeadCells<2> cells;
  cells.load(from, p.dim, lane);
  HeadRow<2> x;
  x.take(cells);
  if (!is_v) {
    Turns<2> turns;
    turns.load(p.table + size_t(row) * (p.dim / 2), p.dim, lane);
    x.turn(cells, is_q ? p.q_norm : p.k_norm, p.eps, turns, p.dim, lane);
  }
  if constexpr (kBits == 4) x.rotate(p.dim, lane);
  if (is_q) {
    __syncwarp();  // every lane has read its dims and their partners
    x.store_half(p.q + (size_t(row) * p.heads + index) * p.dim, p.dim, lane);
    return;
  }
  using Rows = CodeRows<kBits>;
  const int page = p.pages[size_t(p.sequence[row]) * p.max_pages + position / kPageTokens], token = position % kPageTokens;
  uint8_t* piece = static_cast<uint8_t*>(is_v ? p.v_cache : p.k_cache) + (size_t(page) * p.kv_heads + index) * Rows::piece(p.dim);
  uint8_t* to = piece + token * 16 * Rows::cells(p.dim);
  __half* scales = reinterpret_cast<__half*>(piece + kPageTokens * 16 * Rows::cells(p.dim)) + token * Rows::scales(p.dim);
  if (is_v) x.template store<kBits, true>(to, scales, p.dim, lane);
  else x.template store<kBits, false>(to, scales, p.dim, lane);
}

struct DequantizeKvParams {
  const uint8_t* from;  // pieces of the quantised cache
  __half* to;           // [pieces][256][dim]
  int32_t pieces, dim, bits, is_value;
};
static_assert(sizeof(DequantizeKvParams) == 32);

}  // namespace exllama

// grid ((heads + 2 kv_heads) / 8, m), block 256.
extern "C" __global__ void __launch_bounds__(256, 4) rope_kv_f16(const __grid_constant__ exllama::RopeKvParams p) { exllama::rope_kv_body<16>(p); }
extern "C" __global__ void __launch_bounds__(256, 4) rope_kv_q8(const __grid_constant__ exllama::RopeKvParams p) { exllama::rope_kv_body<8>(p); }
extern "C" __global__ void __launch_bounds__(256, 4) rope_kv_q4(const __grid_constant__ exllama::RopeKvParams p) { exllama::rope_kv_body<4>(p); }

/// One thread per value; q4's stays rotated. For tests. grid (256, pieces), block 256.
extern "C" __global__ void dequantize_kv(const __grid_constant__ exllama::DequantizeKvParams p) {
  using namespace exllama;
  const int token = blockIdx.x, d = threadIdx.x;
  if (d >= p.dim) return;
  const bool wide = p.bits == 8;
  const int row = 16 * (wide ? CodeRows<8>::cells(p.dim) : CodeRows<4>::cells(p.dim));
  const int groups = wide ? 1 : CodeRows<4>::scales(p.dim);
  const uint8_t* piece = p.from + size_t(blockIdx.y) * (wide ? CodeRows<8>::piece(p.dim) : CodeRows<4>::piece(p.dim));
  const __half scale = reinterpret_cast<const __half*>(piece + kPageTokens * row)[token * groups + (wide ? 0 : d / 32)];
  int code;
  if (wide) {
    code = piece[token * row + d] - 128;
  } else {
    const int i = d % 8, nibble = p.is_value ? i : i / 2 + i % 2 * 4;
    code = (piece[token * row + d / 8 * 4 + nibble / 2] >> nibble % 2 * 4 & 15) - 8;
  }
  p.to[(size_t(blockIdx.y) * kPageTokens + token) * p.dim + d] = __float2half_rn(static_cast<float>(code) * __half2float(scale));
}
