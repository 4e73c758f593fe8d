// How much of the cache a decode kernel has under way, by the card that its code is for; ringOf() of
// src/backend/cuda/attention/attention-launch.ts says the same to whoever launches it.
#pragma once

namespace exllama {

/// EXLLAMA_AS: code that is to be as for that card, though it is compiled for another (scripts/build-other-images.js).
#if defined(EXLLAMA_AS)
constexpr int kCard = EXLLAMA_AS;
#elif defined(__CUDA_ARCH__)
constexpr int kCard = __CUDA_ARCH__;
#else
constexpr int kCard = 0;
#endif
constexpr bool kIsHopper = kCard == 900, kIsDatacenterBlackwell = kCard >= 1000 && kCard < 1200;

/// Tiles of 16 keys in fp16. On Turing nothing is under way anyway, and shared memory is scarce; with room for three two blocks
/// fill a multiprocessor of the newest (with more room some would get more blocks than others).
constexpr int kHalfStages = kCard > 0 && kCard < 800 ? 1 : kIsHopper || kIsDatacenterBlackwell ? 3 : 2;

/// Where a multiprocessor has shared memory for it, decode takes 32 keys of a quantised cache at a time: less waiting per key.
/// Heads of more than 192 dims leave no registers for that.
constexpr bool kWideDecode = kCard == 800 || kIsHopper || kIsDatacenterBlackwell;

}  // namespace exllama
