// Quantised linears for some dozens of tokens on Hopper: batches of decode steps, short prompts.
//
//   y_i[m, n_i] = sum_k x[m, k] * scale * (code - zero)_i[n_i, k]  (+ bias) (+ residual)
//
// for up to three weights that share x, or for gate and up with silu(gate) * up as the result.
//
// linear_batch_wgmma_q4_g{32,64,128}_t{16,32,64,128}
//   Strategy   As linear_prompt.cu: y^T = w x^T, weights unpacked to operand A in registers while the chunk before is multiplied,
//              x as operand B in shared memory. But few tokens make few tiles, so k is cut, too: a unit is 128 outputs times all
//              tokens, and all slices (256 k) of all units are dealt out to the blocks in equal runs (stream-k). A piece is
//              what a warp computes of its row tile in a unit. Pieces meet in device memory: the warp that is the last to write its
//              own adds all of them, in the order of k, and makes the results. No warp ever waits for another.
//              A warp's weights come through a ring of its own, three copies (codes, scales, zeros) for a slice, beginning
//              before the kernel ahead has ended; x through a ring of the block's, pair of chunks after pair, asked for by the
//              first warp. Up to 64 tokens two blocks share a multiprocessor and hide each other's beginnings and ends.
//   barriers   loaded[w][s]: a warp's slice; one arrival (its lane 0, which expects kSliceBytes) and those bytes. The warp asks for the
//              next slice of a place when all its lanes have read the last chunk there.
//              full[s]: a pair of x; one arrival (the asking thread, which expects kStageBytes) and those bytes, always whole:
//              what lies outside of x is zeros. empty[s]: eight arrivals, lane 0 of each warp, in the first step of the pair after
//              it. Right after that the first warp asks for pair j - 1 + kStages, in the place of pair j - 1: it has arrived
//              there itself, and the others need no later pair to do so. So every phase ends.
//   arrivals   One number per unit and row tile (of gate and up together where silu), zero between launches: whoever brings
//              it to the number of pieces puts it back to zero.
// Bits         The sum of a piece is over k in ascending order, pieces are added in ascending order: the bits depend on the
//              launch's shape, never on timing.
// Layout       quantized.cuh; pieces: [block + unit][row tile][tokens][16] f32
// Limits       sm_90a (empty elsewhere); m <= N; k % 256 == 0, n % 8 == 0, 16-byte aligned x, y
// Reference    linear_q4_g*_ref of linear_quantized.cu
#include "linear_batch_wgmma.cuh"

namespace exllama {

#ifdef EXLLAMA_WGMMA

__device__ __forceinline__ float4 add(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }

/// Four outputs of some tokens of a row tile, every eighth: the sums of their pieces in the order of k, their loads under way together.
/// `from`: of the first piece; `tokens`: of those that there are from the first on.
template <int kN, int kCount>
__device__ __forceinline__ void sum_pieces(const float* from, int pieces, int tokens, float4 (&sum)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) sum[i] = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll(kN == 64 ? 4 : 16 / kCount)
  for (int piece = 0; piece < pieces; ++piece, from += kBatchWarps * kN * kTileRows) {
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (8 * i < tokens) sum[i] = add(sum[i], __ldcg(reinterpret_cast<const float4*>(from + 8 * i * kTileRows)));
  }
}

__device__ __forceinline__ float4 with_bias(float4 v, const __half* bias, int n, int outputs) {
  if (bias == nullptr) return v;
  const float b[4] = {__half2float(__ldg(bias + n)), __half2float(__ldg(bias + n + 1)), __half2float(__ldg(bias + n + 2)),
                      __half2float(__ldg(bias + n + 3))};
  return make_float4(v.x + b[0], v.y + b[1], v.z + b[2], v.w + b[3]);
}

__device__ __forceinline__ void store_four(__half* y, float4 v) {
  const __half2 pairs[2] = {__floats2half2_rn(v.x, v.y), __floats2half2_rn(v.z, v.w)};
  *reinterpret_cast<uint2*>(y) = *reinterpret_cast<const uint2*>(pairs);
}

__device__ __forceinline__ float gated(float gate, float up) { return gate / (1.f + __expf(-gate)) * up; }

/// Counts one more; what the warp has written before is there for whoever counts later, and what they wrote for this lane.
__device__ __forceinline__ uint32_t arrive(uint32_t* arrivals) {
  uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(arrivals) : "memory");
  return before;
}

/// A warp leaves its piece of a unit; the last of those that share its results makes them.
template <int kN>
__device__ __forceinline__ void finish_piece(const BatchLinear& p, const BatchShare& share, int unit, int warp, int lane, const float (&sum)[kN / 2]) {
  const int begin = share.block_of(unit * share.slices), end = share.block_of((unit + 1) * share.slices - 1);
  const int g = lane / 4, t = lane % 4;
  float* piece = p.pieces + (size_t(blockIdx.x + unit) * kBatchWarps + warp) * (kN * kTileRows) + 2 * t * kTileRows + g;
#pragma unroll
  for (int j = 0; j < kN / 8; ++j)
    if (j * 8 < p.m) {
#pragma unroll
      for (int e = 0; e < 4; ++e) piece[(8 * j + e % 2) * kTileRows + 8 * (e / 2)] = sum[4 * j + e];
    }
  __syncwarp();
  const uint32_t pieces = (end - begin + 1) * (p.silu ? 2 : 1);
  if (pieces > 1) {
    uint32_t last = 0;
    if (lane == 0) {
      uint32_t* arrivals = p.arrivals + unit * kBatchWarps + (p.silu ? warp % 4 : warp);
      last = arrive(arrivals) == pieces - 1;
      if (last) *arrivals = 0;
    }
    if (!__shfl_sync(0xffffffffu, last, 0)) return;
  }
  const int first_warp = p.silu ? warp % 4 : warp;
  const BatchPlace place(p, unit, first_warp);
  const int outputs = of_linear(place.linear, p.n0, p.n1, p.n2), n = place.row + t * 4;
  if (n >= outputs) return;
  const __half* bias = of_linear(place.linear, p.bias0, p.bias1, p.bias2);
  __half* y = of_linear(place.linear, p.y0, p.y1, p.y2);
  constexpr int kCount = kN == 128 ? 8 : kN == 32 ? 4 : 2;  // tokens of a lane at a time
  const float* from = p.pieces + (size_t(begin + unit) * kBatchWarps + first_warp) * (kN * kTileRows) + g * kTileRows + t * 4;
#pragma unroll 1
  for (int token0 = 0; token0 < p.m; token0 += 8 * kCount) {
    float4 v[kCount];
    sum_pieces<kN>(from + token0 * kTileRows, end - begin + 1, p.m - token0, v);
#pragma unroll
    for (int i = 0; i < kCount; ++i) v[i] = with_bias(v[i], bias, n, outputs);
    if (p.silu) {
      float4 up[kCount];
      sum_pieces<kN>(from + (4 * kN + token0) * kTileRows, end - begin + 1, p.m - token0, up);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const float4 u = with_bias(up[i], p.bias1, n, outputs);
        v[i] = make_float4(gated(v[i].x, u.x), gated(v[i].y, u.y), gated(v[i].z, u.z), gated(v[i].w, u.w));
      }
    }
    float* residual = p.residual + size_t(token0 + g) * outputs + n;
    if (p.residual != nullptr) {
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (token0 + g + 8 * i < p.m) v[i] = add(v[i], *reinterpret_cast<const float4*>(residual + size_t(8 * i) * outputs));
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int token = token0 + g + 8 * i;
      if (token >= p.m) break;
      if (p.residual != nullptr) *reinterpret_cast<float4*>(residual + size_t(8 * i) * outputs) = v[i];
      else store_four(y + size_t(token) * outputs + n, v[i]);
    }
  }
}

/// A number that the compiler knows.
template <int kValue>
struct Index {
  static constexpr int value = kValue;
};

template <int kGroup, int kN>
__device__ __forceinline__ void linear_batch_wgmma(const TensorBatchParams& params) {
  using Tile = BatchTile<kGroup, kN>;
  extern __shared__ uint8_t dynamic_shared[];
  const BatchLinear& p = params.linear;
  const BatchShare share(p);
  const int first = share.first(blockIdx.x), last = share.first(blockIdx.x + 1);
  const uint32_t base = (shared_address(dynamic_shared) + 1023) & ~1023u;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const uint32_t loaded = base + Tile::kBarriersAt + 16 * Tile::kStages;
  BatchRing<kGroup, kN> ring{base, base + Tile::kBarriersAt};
  allow_next();
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i, ring.slot = i) {
      barrier_init(ring.full(), 1);
      barrier_init(ring.empty(), kBatchWarps);
    }
    for (int i = 0; i < kBatchWarps * Tile::kSlots; ++i) barrier_init(loaded + 8 * i, 1);
    barrier_init_done();
  }
  ring.slot = 0;
  __syncthreads();
  const uint32_t own = base + Tile::kWeightsAt + warp * Tile::kSlots * Tile::kSliceBytes, own_loaded = loaded + warp * Tile::kSlots * 8;
  BatchFeed<kGroup, kN> feed(p, share, own, own_loaded, first, last, warp, lane);
  BatchTaker<kGroup, kN> taker{own, own_loaded, lane};
#pragma unroll 1
  for (int i = 0; i < Tile::kSlots; ++i) feed.ask();
  int unit = first / share.slices, slice = first - unit * share.slices;
  BatchAsker<kGroup, kN> asker{ring, &params.x_map, 2 * slice, 2 * int(share.slices), 2 * (last - first)};
  wait_previous();
  if (threadIdx.x == 0)
#pragma unroll 1
    for (int i = 0; i < Tile::kStages - 1; ++i) asker.ask();
  __syncwarp();
  const QuadTurn quad(lane);
  PackedChunk<kGroup> packed;
  uint32_t a[2][2][2][4];  // of two chunks, halves, products
  taker.next();
  for (int at = first; at < last; ++unit, slice = 0) {
    // Again behind every piece: finishing it needs the registers.
    taker.template read<0>(packed);
#pragma unroll
    for (int half = 0; half < 2; ++half) unpack_half(packed, half, quad, lane, a[0][half]);
    float sum[kN / 2];
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) sum[i] = 0.f;
    uint32_t used = 0;
    for (const int end = min(last, at + int(share.slices) - slice); at < end; ++at) {
      // In the step of a chunk the one after it is read and unpacked.
      const auto step = [&](auto index) {
        constexpr int c = decltype(index)::value;
        if constexpr (c + 1 < kSliceChunks) {
          taker.template read<c + 1>(packed);
        } else {
          __syncwarp();  // all have read this slice's last chunk, a step ago
          feed.ask();
          if (at + 1 < last) {
            taker.next();
            taker.template read<0>(packed);
          }
        }
        if constexpr (c % 2 == 0) barrier_wait(ring.full(), ring.parity);
        const uint64_t x = wgmma_operand(ring.x() + c % 2 * (kN * 128));
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          wgmma_begin();
#pragma unroll
          for (int kk = 0; kk < 2; ++kk) wgmma_weights<kN>(sum, a[c % 2][half][kk], x + 4 * half + 2 * kk);
          wgmma_commit();
          wgmma_wait<2>();  // this half of the chunk before has been read: the other one and this one go on meanwhile
          unpack_half(packed, half, quad, lane, a[c % 2 ^ 1][half]);
        }
        if constexpr (c % 2 == 0) {
          if (lane == 0 && used != 0) barrier_arrive(used);
          if (threadIdx.x == 0) asker.ask();
          __syncwarp();
        } else {
          used = ring.empty();
          ring.advance();
        }
      };
      step(Index<0>());
      step(Index<1>());
      step(Index<2>());
      step(Index<3>());
    }
    wgmma_wait<0>();
    wgmma_results(sum);
    if (lane == 0) barrier_arrive(used);
    finish_piece<kN>(p, share, unit, warp, lane, sum);
  }
}

#endif  // EXLLAMA_WGMMA

}  // namespace exllama

// grid by batchLaunch(): blocks that all run at once; block 256, BatchTile::kShared bytes of dynamic shared memory.
#ifdef EXLLAMA_WGMMA
#define EXLLAMA_BATCH_BODY(GROUP, N) exllama::linear_batch_wgmma<GROUP, N>(p)
#else
#define EXLLAMA_BATCH_BODY(GROUP, N)
#endif
#define EXLLAMA_BATCH(GROUP, N)                                                                              \
  extern "C" __global__ void __launch_bounds__(256, exllama::BatchTile<GROUP, N>::kBlocks)                     \
      linear_batch_wgmma_q4_g##GROUP##_t##N(const __grid_constant__ exllama::TensorBatchParams p) {            \
    EXLLAMA_BATCH_BODY(GROUP, N);                                                                              \
  }
#define EXLLAMA_BATCH_TOKENS(GROUP) EXLLAMA_BATCH(GROUP, 16) EXLLAMA_BATCH(GROUP, 32) EXLLAMA_BATCH(GROUP, 64) EXLLAMA_BATCH(GROUP, 128)
EXLLAMA_BATCH_TOKENS(32)
EXLLAMA_BATCH_TOKENS(64)
EXLLAMA_BATCH_TOKENS(128)
