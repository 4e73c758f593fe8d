// Registers moved between warpgroups (sm_90a): of those that a block was launched with, warps that only copy give to those
// that compute. What the image for 9.0 alone has is marked by EXLLAMA_WGMMA.
#pragma once

#include "common.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define EXLLAMA_WGMMA 1

namespace exllama {

template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace exllama

#endif
