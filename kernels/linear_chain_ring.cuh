// Where the copies of a chain go.
#pragma once

#include "linear_chain.cuh"

namespace exllama {

/// A copy's stage of the ring, and how often the ring has gone round.
struct ChainRingPlace {
  int stage, round;
  __device__ __forceinline__ void next(int stages) {
    if (++stage == stages) stage = 0, ++round;
  }
  /// `count` copies earlier, fewer than there are stages; before the first copy the round is negative.
  __device__ __forceinline__ ChainRingPlace before(int count, int stages) const {
    return stage >= count ? ChainRingPlace{stage - count, round} : ChainRingPlace{stage - count + stages, round - 1};
  }
  __device__ __forceinline__ unsigned full() const { return (round & 1) * kMostChainStages + stage; }
};

}  // namespace exllama
