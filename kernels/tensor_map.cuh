// What cuTensorMapEncodeTiled makes (src/backend/cuda/linears/tensor-map.ts): part of the parameters of kernels that the copy
// engine serves.
#pragma once

#include <stdint.h>

namespace exllama {

struct alignas(64) TensorMap {
  uint64_t opaque[16];
};

}  // namespace exllama
