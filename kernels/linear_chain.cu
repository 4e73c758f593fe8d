// What one token goes through between two attentions, in one launch: o, gate and up, down, and the
// next layer's q, k, v, each by all blocks, meeting in between.
//
//   r += o(attention)        h = silu(gate(norm(r))) * up(norm(r))
//   r += down(h)             q, k, v = next(next_norm(r))
//
// Strategy   One block per multiprocessor, all of them running at once (a cooperative launch), so that
//            blocks may wait for each other (linear_chain_packets.cuh). A warp does nothing but have the
//            copy engine bring superblock after superblock of the block's row tiles into a ring,
//            straight through from one linear to the next: memory works while blocks meet, and fills
//            the ring while attention ahead runs. It gives its warpgroup's registers to those that
//            compute. Of its copies only as many are under way at a time as
//            keep memory busy: every other load of a multiprocessor, x above all, waits behind those it
//            has asked for before. While x is on its way, warps have their first superblocks in registers,
//            eight in all, a third of a ring: memory would stop for a full one.
//            Sixteen warps take halves of superblocks, independent of each other
//            until the end of a linear (linear_chain_products.cuh); then their sums are added, in the
//            order of k, whichever warp made them. RMSNorm's common factor is left to the results, so
//            that a block does not meet for it.
//            A warp comes to every eighth superblock only, and copies may arrive in another order than
//            they were asked for: with one barrier for each stage it could take the round before last
//            for its own. So even and odd rounds have barriers of their own: when a warp asks for
//            superblock s it has had s - 8, or the block what lies before this linear, hence s - stages has been
//            asked for, hence s - 2 * stages has been there.
//            Row tiles are dealt out whole; where that leaves too much to some blocks, the superblocks of
//            those left over are dealt out to all, who send their sums to the block that has the tile.
// Layout     quantized.cuh
// Limits     one token; in the image for 9.0 alone, where it has been measured; every k a multiple of 128,
//            hidden <= 8192, all outputs multiples of 16; inputs in their own order; shared memory by
//            chainLaunch() in src/backend/cuda/chains/chain-launch.ts; all launches that share packets have the
//            same grid and the same inputs of o and down
// Registers  What is defined on some paths only counts as in use all around a loop: arrays that are filled under
//            a condition begin as zeros, or these kernels spill.
// Reference  the same linears by linear_stream.cu, one launch each
#include "registers.cuh"
#ifdef EXLLAMA_WGMMA
#include "linear_chain_body.cuh"
#else
#include "linear_chain.cuh"
#endif

// grid, stages and dynamic shared memory by chainLaunch(), cooperative.
extern "C" __global__ void __launch_bounds__(exllama::kChainBlock, 1)
    linear_chain_q4_g128(const __grid_constant__ exllama::ChainParams p) {
#ifdef EXLLAMA_WGMMA
  extern __shared__ __align__(128) uint8_t dynamic_shared[];
  exllama::linear_chain_body<4, 128, exllama::NoAttention>(p, dynamic_shared);
#endif
}
