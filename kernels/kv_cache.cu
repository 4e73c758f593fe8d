// RoPE and the writing of keys and values for the tokens of prompts; decode steps do it inside their attention
// (attention_step.cuh).
//
// Strategy   A warp takes heads of one token, six under way at once: norm over the head where the model has one, RoPE, for
//            q4 the rotation of kv_cells.cuh, then q back in place and k, v into their page, in f16 or as codes and
//            scales. Of a long prompt a block has all heads of a token, whose angles its warps read once.
// Limits     dim % 8 == 0, dim <= 256
// Reference  dequantize_kv makes an f16 cache of what was written as codes, to be compared with rope_kv_f16's
#include "kv_cells.cuh"

namespace exllama {

/// One head of a token: where it comes from and goes to.
struct RopeKvHead {
  bool is_q, is_v;
  int index;

  __device__ __forceinline__ RopeKvHead(const RopeKvParams& p, int head) {
    is_q = head < p.heads, is_v = head >= p.heads + p.kv_heads;
    index = is_q ? head : is_v ? head - p.heads - p.kv_heads : head - p.heads;
  }
  __device__ __forceinline__ const __half* from(const RopeKvParams& p, int row) const {
    return is_q ? p.q + (size_t(row) * p.heads + index) * p.dim : (is_v ? p.v : p.k) + (size_t(row) * p.kv_heads + index) * p.dim;
  }
};

/// A head's cells, of which only a lane's own are loaded where the warp has all of them: the others come from their lanes.
template <int kRows>
struct ExchangedCells : HeadCells<kRows> {
  __device__ __forceinline__ void load_own(const __half* x, int dim, int lane) {
    if constexpr (kRows == 1) this->own[0] = four_halves(x, 4 * lane, dim);
    else this->load(x, dim, lane);
  }
  __device__ __forceinline__ void exchange(int dim, int lane) {
    if constexpr (kRows == 1) {
      const int from = lane < dim / 8 ? lane + dim / 8 : lane - dim / 8;
      this->partner[0] = make_uint2(__shfl_sync(0xffffffffu, this->own[0].x, from), __shfl_sync(0xffffffffu, this->own[0].y, from));
    }
  }
};

template <int kBits, int kRows>
__device__ __forceinline__ void rope_kv_rows(const RopeKvParams& p) {
  constexpr int kTogether = kRows == 1 ? 6 : 2;  // heads whose cells are on their way at once
  const int lane = threadIdx.x % kWarp, row = blockIdx.y, step = 8 * gridDim.x, all = p.heads + 2 * p.kv_heads;
  const int position = p.positions[row];
  const int page = p.pages[size_t(p.sequence[row]) * p.max_pages + max(position, 0) / kPageTokens], token = position % kPageTokens;
  Turns<kRows> turns;
  turns.load(p.table + size_t(row) * (p.dim / 2), p.dim, lane);
  for (int first = blockIdx.x * 8 + threadIdx.x / kWarp; first < all; first += kTogether * step) {
    ExchangedCells<kRows> cells[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i)
      if (first + i * step < all) cells[i].load_own(RopeKvHead(p, first + i * step).from(p, row), p.dim, lane);
    __syncwarp();  // every lane has read its dims and their partners
    if (position < 0) return;  // not before: nothing that is loaded has to wait for the position
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (first + i * step >= all) break;
      const RopeKvHead head(p, first + i * step);
      HeadRow<kRows> x;
      x.take(cells[i]);
      cells[i].exchange(p.dim, lane);
      if (!head.is_v) x.turn(cells[i], head.is_q ? p.q_norm : p.k_norm, p.eps, turns, p.dim, lane);
      if constexpr (kBits == 4) x.rotate(p.dim, lane);
      if (head.is_q) {
        x.store_half(p.q + (size_t(row) * p.heads + head.index) * p.dim, p.dim, lane);
        continue;
      }
      using Rows = CodeRows<kBits>;
      uint8_t* piece = static_cast<uint8_t*>(head.is_v ? p.v_cache : p.k_cache) + (size_t(page) * p.kv_heads + head.index) * Rows::piece(p.dim);
      uint8_t* to = piece + token * 16 * Rows::cells(p.dim);
      __half* scales = reinterpret_cast<__half*>(piece + kPageTokens * 16 * Rows::cells(p.dim)) + token * Rows::scales(p.dim);
      if (head.is_v) x.template store<kBits, true>(to, scales, p.dim, lane);
      else x.template store<kBits, false>(to, scales, p.dim, lane);
    }
  }
}

template <int kBits>
__device__ __forceinline__ void rope_kv_body(const RopeKvParams& p) {
  allow_next();
  wait_previous();
  if (p.dim <= 128) rope_kv_rows<kBits, 1>(p);
  else rope_kv_rows<kBits, 2>(p);
}

struct DequantizeKvParams {
  const uint8_t* from;  // pieces of the quantised cache
  __half* to;           // [pieces][256][dim]
  int32_t pieces, dim, bits, is_value;
};
static_assert(sizeof(DequantizeKvParams) == 32);

}  // namespace exllama

// grid (1 .. (heads + 2 kv_heads) / 8, m), block 256.
extern "C" __global__ void __launch_bounds__(256, 3) rope_kv_f16(const __grid_constant__ exllama::RopeKvParams p) { exllama::rope_kv_body<16>(p); }
extern "C" __global__ void __launch_bounds__(256, 3) rope_kv_q8(const __grid_constant__ exllama::RopeKvParams p) { exllama::rope_kv_body<8>(p); }
extern "C" __global__ void __launch_bounds__(256, 3) rope_kv_q4(const __grid_constant__ exllama::RopeKvParams p) { exllama::rope_kv_body<4>(p); }

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
