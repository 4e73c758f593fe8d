// The end of a wait for other blocks that would never end.
#pragma once

#include "common.cuh"

namespace exllama {

/// Looks until what is awaited would have come ten times over: then something is wrong with the launch.
constexpr unsigned kMostPolls = 1u << 22;

/// Ends the launch with an error. A trap instead would cost the warps what take_registers() has given them: the assembler then keeps to
/// the registers that the launch began with.
__device__ __forceinline__ void give_up() { asm volatile("st.global.u32 [%0], %1;" ::"l"(0ull), "r"(0) : "memory"); }

}  // namespace exllama
