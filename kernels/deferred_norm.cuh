// RMSNorm put off until the linears behind it have multiplied: norm(r) = r * weight * s with s = 1 / sqrt(mean(r^2) + eps) of a
// token, and s may as well multiply what linears make of r * weight. So no launch has to see whole rows: who adds to the
// residual stream leaves x = f16(r * weight * carried / 64) and squares of what it has made, and who reads x multiplies its
// sums by s / carried * 64.
//
// carried    keeps x in f16's range, for residual streams differ by orders of magnitude between models, layers and tokens: the token's s of
//            the norm before, which is about as large as s. Some values of some tokens grow within one layer to thousands of times the mean:
//            the 64 leave room for r * weight up to 4 * 10^6 times what the mean was. Beyond that x is infinite, and what follows is no
//            number, never a wrong one. Below, f16 is exact to 2^-25, which is 2^-19 of the mean: less than its own rounding (2^-12) as long
//            as weights are above 1/128.
// Bits       x and squares of a token follow from the residual stream and carried alone, whoever makes them: the finish of a linear
//            (linear_batch_finish.cuh), or rms_norm_deferred, with which the layers of a stage begin; linear_chain_rows.cu, whose packets round
//            squares and factors, makes all of its own and takes and leaves no more than carried. Carried crosses between stages
//            with the residual stream, so all bits are the same wherever a model is cut. Products and sums that both make are
//            written out (`_rn`), so that the compiler contracts none of them.
// Layout     squares: [hidden / 16][places] f32, the sum of r^2 of 16 outputs of a token; places: tokens that the linears' kernels have room for
#pragma once

#include "common.cuh"

namespace exllama {

/// Behind the other parameters of a linear.
struct DeferredNorm {
  const __half* weight;  // [hidden] of the norm that follows a linear that adds to the residual stream: x goes to y0; or null
  float* squares;        // left with x; where there is no weight, what x came with, or null: x is normed
  const float* carried;  // [places] what is in x
  float* factors;        // [places] where whoever reads x leaves each token's s
  float eps;             // of x
  int32_t unused0;
  uint64_t unused1;
  uint64_t unused2;
  uint64_t unused3;
};
static_assert(sizeof(DeferredNorm) == 64);

constexpr int kSquaredOutputs = 16;
constexpr float kDeferredRoom = 1.f / 64;  // a power of two: exact

/// A value of the residual stream as x has it; `factor`: carried * kDeferredRoom.
__device__ __forceinline__ float deferred(float r, float factor, float weight) { return __fmul_rn(__fmul_rn(r, factor), weight); }

/// Of outputs g and g + 8 of 16: sums of these over g go pair by pair, then pairs of pairs, then the two of these.
__device__ __forceinline__ float two_squares(float low, float high) { return __fmaf_rn(high, high, __fmul_rn(low, low)); }

}  // namespace exllama
