// linear_half_gemv_m*: y[m, n] = sum_k x[m, k] * w[n, k] (+ bias) (+ residual) over fp16 weights as
// the checkpoint has them, m <= 8 * kColumnTiles per blockIdx.y: the head, plain checkpoints.
//
// grid (n / 16, m / columns), block 256.
//
// Strategy   as for quantised weights: a block owns 16 outputs, its eight warps split k, weights
//            are operand A of mma.m16n8k16 and x (8 tokens) operand B, so that 1 and 8 tokens cost
//            the same. The order of k inside 32 is permuted alike for both operands, so that a
//            lane's fragments of two mma are 16 consecutive bytes of a row. Each lane has 16 loads
//            of 16 bytes under way (8 for many tokens); the first are issued before the kernel ahead has ended.
//            Warps' sums are added in their order.
// Limits     k % 8 == 0 and 16-byte aligned rows
// Reference  linear_half_ref
#include "linear_half.cuh"

namespace exllama {

constexpr int kGemvWarps = 8, kGemvRows = 16, kGemvStep = 64;

/// A lane's weights of 16 rows x 64 k: rows g and g + 8, halves of 32 k.
struct GemvWeights {
  uint4 row[2][2];
};

template <int kColumnTiles>
__device__ __forceinline__ void half_gemv_body(const HalfLinearParams& p) {
  constexpr int kGemvBatch = kColumnTiles == 1 ? 4 : 2;
  __shared__ float partial[kGemvWarps][kColumnTiles * 8][kGemvRows + 4];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int n0 = blockIdx.x * kGemvRows, m0 = blockIdx.y * kColumnTiles * 8;
  allow_next();
  // Rows beyond the last are read as the last; their results are dropped.
  const __half* rows[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) rows[h] = p.weights + size_t(min(n0 + g + 8 * h, p.n - 1)) * p.k + 8 * t;

  float sum[kColumnTiles][4] = {};
  bool waited = false;
  const int steps = (p.k + kGemvStep - 1) / kGemvStep;
  // A warp takes kGemvBatch steps in a row: 128 consecutive bytes of each row at every step.
  for (int first = warp * kGemvBatch; first < steps; first += kGemvWarps * kGemvBatch) {
    GemvWeights w[kGemvBatch];
#pragma unroll
    for (int b = 0; b < kGemvBatch; ++b)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int k = (first + b) * kGemvStep + 32 * i;
#pragma unroll
        for (int h = 0; h < 2; ++h)
          w[b].row[h][i] = k + 8 * t < p.k ? load_stream(reinterpret_cast<const uint4*>(rows[h] + k)) : make_uint4(0, 0, 0, 0);
      }
    if (!waited) {  // only weights have been touched so far
      wait_previous();
      waited = true;
    }
#pragma unroll
    for (int b = 0; b < kGemvBatch; ++b)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int k = (first + b) * kGemvStep + 32 * i + 8 * t;
#pragma unroll
        for (int c = 0; c < kColumnTiles; ++c) {
          const int token = m0 + c * 8 + g;
          uint4 x = make_uint4(0, 0, 0, 0);
          if (token < p.m && k < p.k) x = *reinterpret_cast<const uint4*>(p.x + size_t(token) * p.ldx + k);
          const uint4 &u = w[b].row[0][i], &v = w[b].row[1][i];
          const uint32_t a0[4] = {u.x, v.x, u.y, v.y}, a1[4] = {u.z, v.z, u.w, v.w};
          const uint32_t b0[2] = {x.x, x.y}, b1[2] = {x.z, x.w};
          mma_16x8x16(sum[c], a0, b0);
          mma_16x8x16(sum[c], a1, b1);
        }
      }
  }
  if (!waited) wait_previous();

#pragma unroll
  for (int c = 0; c < kColumnTiles; ++c)
#pragma unroll
    for (int i = 0; i < 4; ++i) partial[warp][c * 8 + 2 * t + i % 2][g + 8 * (i / 2)] = sum[c][i];
  __syncthreads();
  for (int i = threadIdx.x; i < kGemvRows * kColumnTiles * 8; i += kGemvWarps * kWarp) {
    const int row = i % kGemvRows, column = i / kGemvRows, n = n0 + row, m = m0 + column;
    if (m >= p.m || n >= p.n) continue;
    float y = 0.f;
#pragma unroll
    for (int w = 0; w < kGemvWarps; ++w) y += partial[w][column][row];
    if (p.bias != nullptr) y += __half2float(__ldg(p.bias + n));
    const size_t at = size_t(m) * p.ldy + n;
    if (p.residual != nullptr) y += p.residual[at];
    if (p.y_is_f32) static_cast<float*>(p.y)[at] = y;
    else static_cast<__half*>(p.y)[at] = __float2half_rn(y);
  }
}

}  // namespace exllama

extern "C" __global__ void __launch_bounds__(256, 2) linear_half_gemv_m8(const __grid_constant__ exllama::HalfLinearParams p) {
  exllama::half_gemv_body<1>(p);
}
extern "C" __global__ void __launch_bounds__(256, 2) linear_half_gemv_m32(const __grid_constant__ exllama::HalfLinearParams p) {
  exllama::half_gemv_body<4>(p);
}
