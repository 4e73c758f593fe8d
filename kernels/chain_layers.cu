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

// Query heads to a KV head: one, or up to sixteen. Grid, stages and dynamic shared memory by chainLaunch(), cooperative.
#ifdef EXLLAMA_WGMMA
#define EXLLAMA_CHAIN_LAYERS_BODY(DIM, PRODUCTS)                                                              \
  extern __shared__ __align__(128) uint8_t dynamic_shared[];                                                  \
  exllama::linear_chain_body<4, 128, exllama::LayerAttention<DIM, exllama::PRODUCTS<DIM>>>(p, dynamic_shared);
#else
#define EXLLAMA_CHAIN_LAYERS_BODY(DIM, PRODUCTS)
#endif
#define EXLLAMA_CHAIN_LAYERS(NAME, DIM, PRODUCTS)                                                             \
  extern "C" __global__ void __launch_bounds__(exllama::kChainBlock, 1) NAME(                                 \
      const __grid_constant__ exllama::ChainLayersParams p) {                                                 \
    EXLLAMA_CHAIN_LAYERS_BODY(DIM, PRODUCTS)                                                                  \
  }
EXLLAMA_CHAIN_LAYERS(chain_layers_q4_g128_d64, 64, OneHead)
EXLLAMA_CHAIN_LAYERS(chain_layers_q4_g128_d128, 128, OneHead)
EXLLAMA_CHAIN_LAYERS(chain_layers_q4_g128_d64_grouped, 64, EightHeads)
EXLLAMA_CHAIN_LAYERS(chain_layers_q4_g128_d128_grouped, 128, EightHeads)
