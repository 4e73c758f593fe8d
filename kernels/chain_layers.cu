// One token through whole layers, one after the other, in one launch: attention between the linears of linear_chain.cu. Memory
// goes on delivering weights while blocks meet and attend, and nothing begins or ends between layers.
//
// Strategy   linear_chain.cu for linears and meetings, linear_chain_attention.cuh for attention
// Limits     those of both; layers of the same shape, kMostChainLayers of them; f16 cache
// Reference  linear_chain.cu and attention.cu, a launch each
#include "registers.cuh"
#ifdef EXLLAMA_WGMMA
#include "linear_chain_body.cuh"
#else
#include "linear_chain_attention.cuh"
#endif

// Grid, stages and dynamic shared memory by chainLaunch(), cooperative.
#ifdef EXLLAMA_WGMMA
#define EXLLAMA_CHAIN_LAYERS_BODY(DIM)                                                                        \
  extern __shared__ __align__(128) uint8_t dynamic_shared[];                                                  \
  exllama::linear_chain_body<4, 128, exllama::LayerAttention<DIM>>(p, dynamic_shared);
#else
#define EXLLAMA_CHAIN_LAYERS_BODY(DIM)
#endif
#define EXLLAMA_CHAIN_LAYERS(DIM)                                                                             \
  extern "C" __global__ void __launch_bounds__(exllama::kChainBlock, 1)                                       \
      chain_layers_q4_g128_d##DIM(const __grid_constant__ exllama::ChainLayersParams p) {                     \
    EXLLAMA_CHAIN_LAYERS_BODY(DIM)                                                                            \
  }
EXLLAMA_CHAIN_LAYERS(64)
EXLLAMA_CHAIN_LAYERS(128)
