// What every linear over fp16 weights takes: linear_half.cu, linear_half_gemv.cu.
#pragma once

#include "common.cuh"

namespace exllama {

struct HalfLinearParams {
  const __half* weights;       // [n, k]
  const __half* x;             // [m, ldx]
  const __half* bias;          // [n] or null
  const float* residual;       // [m, ldy] f32 or null
  void* y;                     // [m, ldy] f16, or f32 where y_is_f32
  int32_t m, n, k;
  int32_t ldx, ldy;
  int32_t y_is_f32;
};
static_assert(sizeof(HalfLinearParams) == 64);

}  // namespace exllama
